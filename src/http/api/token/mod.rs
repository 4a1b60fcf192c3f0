//! `/token`: what services ask about access tokens: introspection (RFC 7662) and revocation (RFC 7009), and
//! in `revocations.rs` the feed of what was revoked.
//!
//! Guarantees: a token that would be refused here, for whatever reason, and a text that is no token get the same answer. A revocation is
//! answered after the disk has it (I1). Deliberately absent: `token_type_hint` has no effect, because there is one type of token.

pub(in crate::http) mod revocations;
mod wire;

use std::sync::Arc;

use poem_openapi::OpenApi;
use zeroize::Zeroizing;

use crate::{
    auth::{AuthError, Caller},
    http::{
        api::{auth::SuccessBody, tag::Tag},
        middleware::{
            audit,
            client_address::ClientAddress,
            error::{ApiError, Realm},
            extract::{Body, RequestFields},
            guard::AuthGuard,
            json::Json,
            service_guard::ServiceAuth,
        },
    },
};
use wire::{GivenToken, Introspection};

/// The operations under `/token`.
pub struct TokenApi {
    /// Authenticates services and tokens.
    pub guard: Arc<AuthGuard>,
}

#[OpenApi(prefix_path = "/token", tag = "Tag::Token")]
impl TokenApi {
    /// Introspect a token
    ///
    /// Whether a token is valid now, and whose it is (RFC 7662). A token that is not valid has `{"active":false}` alone, without a reason.
    #[oai(path = "/introspect", method = "post", operation_id = "introspect_token")]
    async fn introspect_token(
        &self,
        _service: ServiceAuth,
        body: Body<GivenToken>,
    ) -> Result<Json<Introspection>, ApiError> {
        let token = given_token(body.fields)?;
        Ok(Json(self.caller_of(&token)?.map_or_else(Introspection::inactive, |caller| Introspection::new(&caller))))
    }

    /// Revoke a token
    ///
    /// Kills a token for good, before it answers (RFC 7009). A token that is dead already and a text that is no token get the same
    /// answer.
    #[oai(path = "/revoke", method = "post", operation_id = "revoke_token")]
    async fn revoke_token(
        &self,
        client: ClientAddress,
        ServiceAuth(service): ServiceAuth,
        body: Body<GivenToken>,
    ) -> Result<Json<SuccessBody>, ApiError> {
        let token = given_token(body.fields)?;
        if let Some(caller) = self.caller_of(&token)? {
            match self.guard.auth.log_out(&caller).await {
                Ok(()) => audit::record_revocation(&service, caller.user(), client),
                Err(AuthError::TokenBlacklisted) => {} // it was revoked or logged out at the same time
                Err(error) => return Err(self.refuse(error)),
            }
        }
        Ok(SuccessBody::new("the token is revoked"))
    }
}

impl TokenApi {
    /// Returns the caller whose token it is, or `None` if the token would be refused.
    fn caller_of(&self, token: &str) -> Result<Option<Caller>, ApiError> {
        match self.guard.auth.authenticate(token) {
            Ok(caller) => Ok(Some(caller)),
            Err(AuthError::TokenInvalid | AuthError::TokenExpired | AuthError::TokenBlacklisted) => Ok(None),
            Err(error) => Err(self.refuse(error)),
        }
    }

    fn refuse(&self, error: AuthError) -> ApiError {
        ApiError::from_auth(error, self.guard.challenge(Realm::Services))
    }
}

fn given_token(mut fields: RequestFields) -> Result<Zeroizing<String>, ApiError> {
    let token = fields.required("token", Ok::<_, String>);
    let hint = fields.optional("token_type_hint", None, |text| Ok::<_, String>(Some(text)));
    match (token, hint) {
        (Some(token), Some(_)) => Ok(token),
        _ => Err(fields.failed()),
    }
}
