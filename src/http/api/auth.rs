//! `/auth`: registration, login, the caller's account, logout.
//!
//! Guarantees: no cache stores a response that carries a token (RFC 6749 §5.1). Deliberately absent: refresh tokens; the holder of an
//! expired token logs in again.

use std::sync::Arc;

use poem_openapi::{ApiResponse, Object, OpenApi, types::Example};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    auth::{AccessToken, AuthError, Caller, passwords::policy::Password},
    http::{
        api::{tag::Tag, timestamp},
        middleware::{
            audit,
            client_address::ClientAddress,
            error::{ApiError, Documented, Realm},
            extract::{Body, RequestFields},
            guard::{AuthGuard, BearerAuth},
            json::Json,
        },
    },
    model::Email,
};

/// The operations under `/auth`.
pub struct AuthApi {
    /// Authenticates callers, and builds the challenge of a refusal.
    pub guard: Arc<AuthGuard>,
    /// Whether anyone may register.
    pub signup: bool,
}

/// An account to make.
#[derive(Object)]
#[oai(example)]
struct Registration {
    /// An email address; its letter case does not matter.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Compared in Unicode form NFKC; nothing is trimmed. Not one of the most commonly used ones, and not the email.
    password: String,
}

impl Example for Registration {
    fn example() -> Self {
        // Not the account of the README, which someone who has read it has registered.
        let password = Credentials::example().password;
        Self { email: "friend@example.com".to_owned(), password }
    }
}

/// Email and password.
#[derive(Object)]
#[oai(example)]
struct Credentials {
    /// An email address; its letter case does not matter.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Compared in Unicode form NFKC; nothing is trimmed.
    password: String,
}

impl Example for Credentials {
    fn example() -> Self {
        Self { email: "you@example.com".to_owned(), password: "correct-horse-battery".to_owned() }
    }
}

/// A new access token (RFC 6749 §5.1).
#[derive(Object, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of RFC 6749")]
struct Token {
    /// Always `success`.
    status: String,
    /// What was done.
    message: String,
    /// The JWT, to be sent as `Authorization: Bearer …`.
    access_token: String,
    /// Always `bearer`.
    token_type: String,
    /// How long the token lives, in seconds.
    expires_in: u64,
}

impl Token {
    fn new(message: &str, token: AccessToken) -> Json<Self> {
        Json(Self {
            status: "success".to_owned(),
            message: message.to_owned(),
            access_token: token.text,
            token_type: "bearer".to_owned(),
            expires_in: token.expires_in_s,
        })
    }
}

#[derive(ApiResponse)]
enum Registered {
    /// The account was made; its first token.
    #[oai(status = 201)]
    Created(
        Json<Token>,
        /// `no-cache`, for caches that know nothing newer.
        #[oai(header = "Pragma")]
        String,
    ),
}

#[derive(ApiResponse)]
enum LoggedIn {
    /// A new token.
    #[oai(status = 200)]
    Ok(
        Json<Token>,
        /// `no-cache`, for caches that know nothing newer.
        #[oai(header = "Pragma")]
        String,
    ),
}

/// The current password and the next.
#[derive(Object)]
#[oai(example)]
struct PasswordChange {
    /// The password that is valid now.
    current_password: String,
    /// The one that is to be.
    new_password: String,
}

impl Example for PasswordChange {
    fn example() -> Self {
        let [current_password, new_password] = ["correct-horse-battery", "battery-horse-correct"].map(str::to_owned);
        Self { current_password, new_password }
    }
}

/// The password again.
#[derive(Object)]
#[oai(example)]
struct Confirmation {
    /// The password of the account.
    password: String,
}

impl Example for Confirmation {
    fn example() -> Self {
        Self { password: "correct-horse-battery".to_owned() }
    }
}

#[derive(ApiResponse)]
enum Removed {
    /// The account is gone, and with it every token.
    #[oai(status = 204)]
    NoContent,
}

/// The user whose token it is.
#[derive(Object, Serialize)]
struct Me {
    /// As spelled at registration.
    email: String,
    /// Names the user; the `sub` claim.
    public_id: String,
    /// Whether the user is an administrator now.
    admin: bool,
    /// When the account was made, such as `02/28/20 11:38:53 PM UTC`.
    registered_on: String,
    /// The same moment as of ISO 8601 and RFC 3339.
    registered_on_iso8601: String,
    /// How long the token still lives, such as `00:14:42` or `2 days, 00:14:42`.
    token_expires_in: String,
}

/// It was done.
#[derive(Object, Serialize)]
#[oai(rename = "Success")]
pub struct SuccessBody {
    /// Always `success`.
    status: String,
    /// What was done.
    message: String,
}

impl SuccessBody {
    /// Returns a body with this message.
    pub fn new(message: impl Into<String>) -> Json<Self> {
        Json(Self { status: "success".to_owned(), message: message.into() })
    }
}

#[OpenApi(prefix_path = "/auth", tag = "Tag::Auth")]
impl AuthApi {
    /// Register
    ///
    /// Makes an account and answers with its first token.
    #[oai(path = "/register", method = "post", operation_id = "register")]
    async fn register(&self, client: ClientAddress, body: Body<Registration>) -> Result<Registered, Documented<409>> {
        if !self.signup {
            return Err(ApiError::SignupClosed.into());
        }
        let mut fields = body.fields;
        let email = email(&mut fields);
        let policy = self.guard.auth.policy();
        let password = fields.required("password", |text| {
            let password = Password::new(text);
            policy.check(&password, email.as_ref()).map(|()| password)
        });
        let (Some(email), Some(password)) = (email, password) else { return Err(fields.failed().into()) };
        let typed = email.clone();
        let token =
            self.guard.auth.register(email, password, client.address()).await.map_err(|error| self.refuse(error))?;
        audit::record("register", &typed, Some(token.user), client);
        Ok(Registered::Created(Token::new("successfully registered", token), no_cache()))
    }

    /// Log in
    ///
    /// Answers with a new token. Tokens from earlier logins stay valid.
    #[oai(path = "/login", method = "post", operation_id = "log_in")]
    async fn log_in(&self, client: ClientAddress, body: Body<Credentials>) -> Result<LoggedIn, Documented<401>> {
        let mut fields = body.fields;
        let email = email(&mut fields);
        let password = fields.required("password", |text| Ok::<_, String>(Password::new(text)));
        let (Some(email), Some(password)) = (email, password) else { return Err(fields.failed().into()) };
        let token = self.guard.auth.log_in(&email, password, client.address()).await.map_err(|error| {
            if matches!(error, AuthError::InvalidCredentials) {
                audit::record("login_failed", &email, None, client);
            }
            self.refuse(error)
        })?;
        audit::record("login", &email, Some(token.user), client);
        Ok(LoggedIn::Ok(Token::new("successfully logged in", token), no_cache()))
    }

    /// Who am I
    ///
    /// The user whose token it is, and how long the token still lives.
    #[oai(path = "/user", method = "get", operation_id = "get_user")]
    async fn get_user(&self, BearerAuth(caller): BearerAuth) -> Result<Json<Me>, ApiError> {
        let user = caller.user();
        Ok(Json(Me {
            email: user.email.to_string(),
            public_id: user.public_id.to_string(),
            admin: user.admin,
            registered_on: timestamp::us(user.registered_on),
            registered_on_iso8601: timestamp::iso8601(user.registered_on),
            token_expires_in: timestamp::clock_span(caller.expires_in_s()),
        }))
    }

    /// Log out
    ///
    /// Kills the token that the request carries, for good, before it answers. Other tokens of the user live on.
    #[oai(path = "/logout", method = "post", operation_id = "log_out")]
    async fn log_out(
        &self,
        client: ClientAddress,
        BearerAuth(caller): BearerAuth,
    ) -> Result<Json<SuccessBody>, ApiError> {
        self.guard.auth.log_out(&caller).await.map_err(|error| self.refuse(error))?;
        record_own("logout", &caller, client);
        Ok(SuccessBody::new("successfully logged out"))
    }

    /// Log out everywhere
    ///
    /// Kills every token of the user, the one that the request carries too.
    #[oai(path = "/logout-all", method = "post", operation_id = "log_out_everywhere")]
    async fn log_out_everywhere(
        &self,
        client: ClientAddress,
        BearerAuth(caller): BearerAuth,
    ) -> Result<Json<SuccessBody>, ApiError> {
        self.guard.auth.log_out_everywhere(&caller).await.map_err(|error| self.refuse(error))?;
        record_own("logout_all", &caller, client);
        Ok(SuccessBody::new("successfully logged out everywhere"))
    }

    /// Change my password
    ///
    /// Kills every token of the user and answers with a new one.
    #[oai(path = "/password", method = "post", operation_id = "change_password")]
    async fn change_password(
        &self,
        client: ClientAddress,
        BearerAuth(caller): BearerAuth,
        body: Body<PasswordChange>,
    ) -> Result<LoggedIn, ApiError> {
        let mut fields = body.fields;
        let current = fields.required("current_password", |text| Ok::<_, String>(Password::new(text)));
        let new = fields.required("new_password", |text| {
            let password = Password::new(text);
            self.guard.auth.policy().check(&password, Some(&caller.user().email)).map(|()| password)
        });
        let (Some(current), Some(new)) = (current, new) else { return Err(fields.failed()) };
        match self.guard.auth.change_password(&caller, current, new, client.address()).await {
            Ok(token) => {
                record_own("password_changed", &caller, client);
                Ok(LoggedIn::Ok(Token::new("password successfully changed", token), no_cache()))
            }
            Err(error @ AuthError::WrongPassword) => {
                Err(ApiError::Validation([("current_password", error.to_string())].into()))
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// Delete my account
    ///
    /// Asks for the password. Widgets of the user stay, without an owner.
    #[oai(path = "/user", method = "delete", operation_id = "delete_account")]
    async fn delete_account(
        &self,
        client: ClientAddress,
        BearerAuth(caller): BearerAuth,
        body: Body<Confirmation>,
    ) -> Result<Removed, Documented<409>> {
        let mut fields = body.fields;
        let password = fields.required("password", |text| Ok::<_, String>(Password::new(text)));
        let Some(password) = password else { return Err(fields.failed().into()) };
        let removed = self.guard.auth.remove_own_account(&caller, password, client.address()).await;
        removed.map_err(|error| self.refuse(error))?;
        record_own("account_deleted", &caller, client);
        Ok(Removed::NoContent)
    }
}

impl AuthApi {
    fn refuse(&self, error: AuthError) -> ApiError {
        ApiError::from_auth(error, self.guard.challenge(Realm::RegisteredUsers))
    }
}

fn record_own(event: &'static str, caller: &Caller, client: ClientAddress) {
    audit::record(event, &caller.user().email, Some(caller.user().public_id), client);
}

fn no_cache() -> String {
    "no-cache".to_owned()
}

fn email(fields: &mut RequestFields) -> Option<Email> {
    fields.required("email", |text: Zeroizing<String>| Email::parse(&text))
}
