//! `/services`: administrators, and the operator over the admin socket, manage the accounts of programs that ask about tokens.
//!
//! Guarantees: a change takes effect on the next request of the service. A secret is shown once, in the response that makes it, which no
//! cache stores.

mod wire;

use std::sync::Arc;

use poem_openapi::OpenApi;

use crate::{
    auth::{AuthError, service_accounts::parse_keep_old},
    http::{
        api::tag::Tag,
        middleware::{
            client_address::ClientAddress,
            error::{ApiError, Documented, Realm},
            extract::{Body, Path},
            guard::{AdminOrOperatorAuth, AuthGuard},
            json::Json,
        },
    },
    model::{ServiceChange, ServiceId, ServiceName},
};
use wire::{
    Added, Change, Deleted, IdParam, NewService, Rotated, Rotation, SecretJson, ServiceJson, ServiceList, link,
};

/// The operations under `/services`.
pub struct ServicesApi {
    /// Authenticates callers, and has the services.
    pub guard: Arc<AuthGuard>,
}

#[OpenApi(prefix_path = "/services", tag = "Tag::Services")]
impl ServicesApi {
    /// List services
    ///
    /// All of them, in order of creation. There are at most 1000.
    #[oai(path = "/", method = "get", operation_id = "list_services")]
    async fn list_services(&self, _manager: AdminOrOperatorAuth) -> Result<Json<ServiceList>, ApiError> {
        let services = self.guard.auth.services().map_err(|error| self.refuse(error))?;
        let now_s = self.guard.auth.unix_s();
        Ok(Json(ServiceList { items: services.iter().map(|service| ServiceJson::new(service, now_s)).collect() }))
    }

    /// Make a service
    ///
    /// Answers with its secret, which is shown this once.
    #[oai(path = "/", method = "post", operation_id = "create_service")]
    async fn create_service(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        body: Body<NewService>,
    ) -> Result<Added, Documented<409>> {
        let mut fields = body.fields;
        let name = fields.required("name", |text| ServiceName::parse(&text));
        let Some(name) = name else { return Err(fields.failed().into()) };
        let added = self.guard.auth.add_service(name).await;
        let (service, secret) = added.map_err(|error| self.refuse(error))?;
        manager.audit_service("service_created", &service, client);
        Ok(Added::Created(Json(SecretJson::new(&service, &secret)), link(service.id), no_cache()))
    }

    /// Get a service
    ///
    /// By id, without its secret.
    #[oai(path = "/:id", method = "get", operation_id = "get_service")]
    async fn get_service(
        &self,
        _manager: AdminOrOperatorAuth,
        /// The id of the service.
        id: Path<IdParam>,
    ) -> Result<Json<ServiceJson>, Documented<404>> {
        let service = self.guard.auth.find_service(self.id(&id)?).map_err(|error| self.refuse(error))?;
        Ok(Json(ServiceJson::new(&service, self.guard.auth.unix_s())))
    }

    /// Change a service
    ///
    /// Disable or enable. It acts on the next request of the service.
    #[oai(path = "/:id", method = "patch", operation_id = "change_service")]
    async fn change_service(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The id of the service.
        id: Path<IdParam>,
        body: Body<Change>,
    ) -> Result<Json<ServiceJson>, Documented<404>> {
        let id = self.id(&id)?;
        let mut fields = body.fields;
        let disabled = fields.flag("disabled");
        fields.finish()?;
        let change = ServiceChange { disabled, ..ServiceChange::default() };
        let service = self.guard.auth.change_service(id, change).await.map_err(|error| self.refuse(error))?;
        if let Some(disabled) = disabled {
            let event = if disabled { "service_disabled" } else { "service_enabled" };
            manager.audit_service(event, &service, client);
        }
        Ok(Json(ServiceJson::new(&service, self.guard.auth.unix_s())))
    }

    /// Give a service a new secret
    ///
    /// Answers with the secret, which is shown this once. The secret before is refused from now on, or after `keep_old`.
    #[oai(path = "/:id/rotate", method = "post", operation_id = "rotate_service_secret")]
    async fn rotate_service_secret(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The id of the service.
        id: Path<IdParam>,
        body: Body<Rotation>,
    ) -> Result<Rotated, Documented<404>> {
        let id = self.id(&id)?;
        let mut fields = body.fields;
        let keep_old = fields.optional("keep_old", None, |text| parse_keep_old(&text).map(Some));
        let Some(keep_old) = keep_old else { return Err(fields.failed().into()) };
        let rotated = self.guard.auth.rotate_service_secret(id, keep_old).await;
        let (service, secret) = rotated.map_err(|error| self.refuse(error))?;
        manager.audit_service("service_rotated", &service, client);
        Ok(Rotated::Ok(Json(SecretJson::new(&service, &secret)), no_cache()))
    }

    /// Delete a service
    ///
    /// Its secret is refused from now on.
    #[oai(path = "/:id", method = "delete", operation_id = "delete_service")]
    async fn delete_service(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The id of the service.
        id: Path<IdParam>,
    ) -> Result<Deleted, Documented<404>> {
        let service = self.guard.auth.remove_service(self.id(&id)?).await.map_err(|error| self.refuse(error))?;
        manager.audit_service("service_removed", &service, client);
        Ok(Deleted::NoContent)
    }
}

impl ServicesApi {
    fn id(&self, id: &Path<IdParam>) -> Result<ServiceId, ApiError> {
        id.text.as_deref().and_then(ServiceId::parse).ok_or_else(|| self.refuse(AuthError::ServiceNotFound))
    }

    fn refuse(&self, error: AuthError) -> ApiError {
        ApiError::from_auth(error, self.guard.challenge(Realm::AdminUsers))
    }
}

fn no_cache() -> String {
    "no-cache".to_owned()
}
