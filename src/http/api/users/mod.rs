//! `/users`: administrators, and the operator over the admin socket, manage users.
//!
//! Guarantees: a change takes effect on the next request of every issued token, because each request reads the user. The last enabled
//! administrator cannot be removed, disabled or demoted (I9).

mod list;
mod wire;

use std::sync::Arc;

use poem::Request;
use poem_openapi::OpenApi;
use zeroize::Zeroizing;

use crate::{
    auth::{
        AuthError,
        passwords::policy::{Password, WeakPassword},
    },
    http::{
        api::{auth::SuccessBody, tag::Tag},
        middleware::{
            client_address::ClientAddress,
            error::{ApiError, Documented, Realm},
            extract::{Body, Path, Query, RequestFields},
            guard::{AdminOrOperatorAuth, AuthGuard},
            json::Json,
            paging::{PageParam, PerPageParam},
        },
    },
    model::{Email, PublicId, User, UserChange},
    store::Store,
};
use list::{CursorParam, FlagParam, SearchParam, UserListRequest, UserListResponse};
use wire::{Added, Change, Deleted, IdParam, NewUser, link};

pub(in crate::http) use list::{read_filter, write_filter};
pub(in crate::http) use wire::UserJson;

/// The operations under `/users`.
pub struct UsersApi {
    /// Authenticates callers.
    pub guard: Arc<AuthGuard>,
    /// The open database.
    pub store: Arc<Store>,
}

#[OpenApi(prefix_path = "/users", tag = "Tag::Users")]
impl UsersApi {
    /// List users
    ///
    /// In pages, in order of registration; with `search`, in order of emails. Follow `links.next`: it leads to any page at the same cost.
    #[oai(path = "/", method = "get", operation_id = "list_users")]
    #[expect(clippy::too_many_arguments, reason = "the document needs each parameter")]
    async fn list_users(
        &self,
        _manager: AdminOrOperatorAuth,
        request: &Request,
        /// Which page, from 1. With `search`, a page beyond the first 10000 users is empty, and its `links.next` goes on behind them.
        #[oai(name = "page")]
        _page: Query<PageParam>,
        /// How many users a page has.
        #[oai(name = "per_page")]
        _per_page: Query<PerPageParam>,
        /// The place that the page begins after, from `links.next` of another page. `page` is then only its number.
        #[oai(name = "after")]
        _after: Query<CursorParam>,
        /// The beginning of the email, in any letter case.
        #[oai(name = "search")]
        _search: Query<SearchParam>,
        /// Only those who are kept out, or only those who are not.
        #[oai(name = "disabled")]
        _disabled: Query<FlagParam>,
        /// Only administrators, or only those who are none.
        #[oai(name = "admin")]
        _admin: Query<FlagParam>,
    ) -> Result<UserListResponse, ApiError> {
        let list = UserListRequest::read(RequestFields::of_query(request)?)?;
        let (filter, from) = (list.filter.clone(), list.from());
        let (page, total) = self.store.user_page_with_total(filter, from, list.paging.per_page as usize).await?;
        Ok(list.respond(&page, total))
    }

    /// Make a user
    ///
    /// With a password that the user should change.
    #[oai(path = "/", method = "post", operation_id = "create_user")]
    async fn create_user(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        body: Body<NewUser>,
    ) -> Result<Added, Documented<409>> {
        let mut fields = body.fields;
        let email = fields.required("email", |text| Email::parse(&text));
        let password = fields.required("password", |text| self.new_password(text, email.as_ref()));
        let admin = fields.flag("admin").unwrap_or(false);
        let (Some(email), Some(password)) = (email, password) else { return Err(fields.failed().into()) };
        fields.finish()?;
        let user = self.guard.auth.add_user(email, password, admin, client.address()).await;
        let user = user.map_err(|error| self.refuse(error))?;
        manager.audit("user_created", &user, client);
        Ok(Added::Created(Json(UserJson::new(&user)), link(user.public_id)))
    }

    /// Get a user
    ///
    /// By public id.
    #[oai(path = "/:public_id", method = "get", operation_id = "get_user_by_id")]
    async fn get_user_by_id(
        &self,
        _manager: AdminOrOperatorAuth,
        /// The public id of the user.
        public_id: Path<IdParam>,
    ) -> Result<Json<UserJson>, Documented<404>> {
        Ok(Json(UserJson::new(&self.find(&public_id)?)))
    }

    /// Change a user
    ///
    /// Disable or enable, promote or demote, give a new password. It acts on the next request of every token already issued.
    #[oai(path = "/:public_id", method = "patch", operation_id = "change_user")]
    async fn change_user(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The public id of the user.
        public_id: Path<IdParam>,
        body: Body<Change>,
    ) -> Result<Json<UserJson>, Documented<404, 409>> {
        let user = self.find(&public_id)?;
        let mut fields = body.fields;
        let (admin, disabled) = (fields.flag("admin"), fields.flag("disabled"));
        let password =
            fields.optional("password", None, |text| self.new_password(text, Some(&user.email)).map(Some)).flatten();
        fields.finish()?;
        let password_hash = match password {
            Some(password) => {
                Some(self.guard.auth.hash(password, client.address()).await.map_err(|error| self.refuse(error))?)
            }
            None => None,
        };
        let change = UserChange { admin, disabled, password_hash, end_sessions: false };
        let user = self.guard.auth.change_user(user.public_id, change).await.map_err(|error| self.refuse(error))?;
        manager.audit("user_changed", &user, client);
        Ok(Json(UserJson::new(&user)))
    }

    /// End all sessions of a user
    ///
    /// Kills every token of the user.
    #[oai(path = "/:public_id/end-sessions", method = "post", operation_id = "end_sessions")]
    async fn end_sessions(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The public id of the user.
        public_id: Path<IdParam>,
    ) -> Result<Json<SuccessBody>, Documented<404>> {
        let user = self.find(&public_id)?;
        let change = UserChange { end_sessions: true, ..UserChange::default() };
        self.guard.auth.change_user(user.public_id, change).await.map_err(|error| self.refuse(error))?;
        manager.audit("sessions_ended", &user, client);
        Ok(SuccessBody::new(format!("all sessions of {} have ended", user.email)))
    }

    /// Delete a user
    ///
    /// Widgets of the user stay, without an owner.
    #[oai(path = "/:public_id", method = "delete", operation_id = "delete_user")]
    async fn delete_user(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The public id of the user.
        public_id: Path<IdParam>,
    ) -> Result<Deleted, Documented<404, 409>> {
        let user = self.find(&public_id)?;
        self.guard.auth.remove_user(user.public_id).await.map_err(|error| self.refuse(error))?;
        manager.audit("user_deleted", &user, client);
        Ok(Deleted::NoContent)
    }
}

impl UsersApi {
    fn find(&self, public_id: &Path<IdParam>) -> Result<User, ApiError> {
        let id = public_id.text.as_deref().and_then(PublicId::parse).ok_or(AuthError::UserNotFound);
        let id = id.map_err(|error| self.refuse(error))?;
        self.store.find_user_by_id(id)?.ok_or_else(|| self.refuse(AuthError::UserNotFound))
    }

    fn new_password(&self, text: Zeroizing<String>, email: Option<&Email>) -> Result<Password, WeakPassword> {
        let password = Password::new(text);
        self.guard.auth.policy().check(&password, email).map(|()| password)
    }

    fn refuse(&self, error: AuthError) -> ApiError {
        ApiError::from_auth(error, self.guard.challenge(Realm::AdminUsers))
    }
}
