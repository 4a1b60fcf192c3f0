//! `/users`: administrators, and the operator over the admin socket, manage users.
//!
//! Guarantees: a change takes effect on the next request of every issued token, because each request reads the user. The last enabled
//! administrator cannot be removed, disabled or demoted (I9).

use std::sync::Arc;

use poem::Request;
use poem_openapi::{ApiResponse, Object, OpenApi, registry::MetaSchema, types::Example};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    auth::{
        AuthError,
        passwords::policy::{Password, WeakPassword},
    },
    http::{
        api::{auth::SuccessBody, tag::Tag, timestamp},
        middleware::{
            client_address::ClientAddress,
            error::{ApiError, Documented, Realm},
            extract::{Body, Parameter, Path, Query, RequestFields},
            guard::{AdminOrOperatorAuth, AuthGuard},
            json::Json,
            paging::{ListResponse, PageParam, Paging, PerPageParam},
            router::BASE_PATH,
        },
    },
    model::{Email, PublicId, User, UserChange, UserFilter},
    store::Store,
};

/// The operations under `/users`.
pub struct UsersApi {
    /// Authenticates callers.
    pub guard: Arc<AuthGuard>,
    /// The open database.
    pub store: Arc<Store>,
}

/// The `{public_id}` in the path.
struct IdParam;

impl Parameter for IdParam {
    fn schema() -> MetaSchema {
        MetaSchema::new_with_format("string", "uuid")
    }
}

/// `?search=`
struct SearchParam;

impl Parameter for SearchParam {
    fn schema() -> MetaSchema {
        MetaSchema::new("string")
    }
}

/// `?admin=`, `?disabled=`
struct FlagParam;

impl Parameter for FlagParam {
    fn schema() -> MetaSchema {
        MetaSchema::new("boolean")
    }
}

/// A user to make.
#[derive(Object)]
#[oai(example)]
struct NewUser {
    /// An email address; its letter case does not matter.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Compared exactly.
    password: String,
    /// Whether the user is an administrator.
    #[oai(default)]
    admin: bool,
}

impl Example for NewUser {
    fn example() -> Self {
        let password = "correct horse battery staple".to_owned();
        Self { email: "someone@example.com".to_owned(), password, admin: false }
    }
}

/// What to change; what is absent or `null` stays as it is.
#[derive(Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Change {
    /// Whether the user is an administrator.
    admin: Option<bool>,
    /// Whether the user is kept out. Disabling ends every session.
    disabled: Option<bool>,
    /// A new password. It ends every session.
    password: Option<String>,
}

impl Example for Change {
    fn example() -> Self {
        Self { admin: None, disabled: Some(true), password: None }
    }
}

/// A user, as administrators see one.
#[derive(Object, Serialize)]
#[oai(rename = "User")]
struct UserJson {
    email: String,
    public_id: String,
    admin: bool,
    disabled: bool,
    /// Such as `02/28/20 11:38:53 PM UTC`.
    registered_on: String,
    registered_on_iso8601: String,
    /// The path of this user.
    link: String,
}

impl UserJson {
    fn new(user: &User) -> Self {
        Self {
            email: user.email.to_string(),
            public_id: user.public_id.to_string(),
            admin: user.admin,
            disabled: user.disabled,
            registered_on: timestamp::us(user.registered_on),
            registered_on_iso8601: timestamp::iso8601(user.registered_on),
            link: link(user.public_id),
        }
    }
}

#[derive(ApiResponse)]
enum Added {
    /// The user was made.
    #[oai(status = 201)]
    Created(
        Json<UserJson>,
        /// The path of the new user.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Deleted {
    /// The user is gone, and with the user every token.
    #[oai(status = 204)]
    NoContent,
}

#[OpenApi(prefix_path = "/users", tag = "Tag::Users")]
impl UsersApi {
    /// List users
    ///
    /// In pages, in order of registration.
    #[oai(path = "/", method = "get", operation_id = "list_users")]
    #[expect(clippy::too_many_arguments, reason = "the document needs each parameter")]
    async fn list_users(
        &self,
        _manager: AdminOrOperatorAuth,
        request: &Request,
        /// Which page, from 1.
        #[oai(name = "page")]
        _page: Query<PageParam>,
        /// How many users a page has.
        #[oai(name = "per_page")]
        _per_page: Query<PerPageParam>,
        /// The beginning of the email, in any letter case.
        #[oai(name = "search")]
        _search: Query<SearchParam>,
        /// Only those who are kept out, or only those who are not.
        #[oai(name = "disabled")]
        _disabled: Query<FlagParam>,
        /// Only administrators, or only those who are none.
        #[oai(name = "admin")]
        _admin: Query<FlagParam>,
    ) -> Result<ListResponse<UserJson>, ApiError> {
        let mut fields = RequestFields::of_query(request)?;
        let paging = Paging::of(&mut fields);
        let filter = UserFilter {
            email_prefix: fields.optional("search", None, |text| Ok::<_, String>(Some(text.to_string()))).flatten(),
            admin: fields.flag("admin"),
            disabled: fields.flag("disabled"),
        };
        fields.finish()?;
        let found = self.store.user_page(&filter, paging.skip(), paging.per_page as usize)?;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(prefix) = &filter.email_prefix {
            query.append_pair("search", prefix);
        }
        for (name, flag) in [("disabled", filter.disabled), ("admin", filter.admin)] {
            if let Some(flag) = flag {
                query.append_pair(name, &flag.to_string());
            }
        }
        let items = found.items.iter().map(UserJson::new).collect();
        Ok(ListResponse::new(items, found.total, &paging, &format!("{BASE_PATH}/users"), &query.finish()))
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
        let user = self.guard.auth.add_user(email, password, admin).await.map_err(|error| self.refuse(error))?;
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
            Some(password) => Some(self.guard.auth.hash(password).await.map_err(|error| self.refuse(error))?),
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

fn link(public_id: PublicId) -> String {
    format!("{BASE_PATH}/users/{public_id}")
}
