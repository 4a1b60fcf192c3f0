//! The audit log: who did what, and from where. Its events have the target `audit` and the level `info`.
//!
//! Guarantees: names and order of the fields are stable, because programs such as fail2ban read them: `event`, `email` and `user` (the
//! public id; absent after a failed login) of the account, `client`, and where another user acted, `by` and the account's new flags. An
//! event of a service has `service` (its name), `service_id`, `client`, and where someone acted on it, `by` and `disabled`. A value has no
//! blanks and no control characters, so no value can look like another field or line. Deliberately absent: passwords, tokens and secrets.

use crate::{
    http::middleware::client_address::ClientAddress,
    model::{Email, PublicId, Service, ServiceId, User},
};

/// Records an event of a user's own account. `user` is `None` if the password was wrong.
pub fn record(event: &'static str, email: &Email, user: Option<PublicId>, client: ClientAddress) {
    let user = user.map(tracing::field::display);
    tracing::info!(target: "audit", %event, email = %plain(email), user, %client);
}

/// Records that `by`, an administrator or the operator (`None`), changed the account `whom`, given in its state after the change.
pub fn record_by(event: &'static str, by: Option<&Email>, whom: &User, client: ClientAddress) {
    let by = by.map_or_else(|| "operator".to_owned(), plain);
    let (email, user) = (plain(&whom.email), whom.public_id);
    tracing::info!(
        target: "audit", %event, %email, %user, %client, %by, admin = whom.admin, disabled = whom.disabled
    );
}

/// Records that `by`, an administrator or the operator (`None`), did `event` to `service`, given in its state after the change.
pub fn record_service(event: &'static str, by: Option<&Email>, service: &Service, client: ClientAddress) {
    let by = by.map_or_else(|| "operator".to_owned(), plain);
    let Service { id, name, disabled, .. } = service;
    tracing::info!(target: "audit", %event, service = %name, service_id = %id, %client, %by, %disabled);
}

/// Records that the credentials of a service were refused. `id` is what it called itself.
pub fn record_refused_service(id: Option<ServiceId>, client: ClientAddress) {
    let (event, service_id) = ("service_auth_failed", id.map(tracing::field::display));
    tracing::info!(target: "audit", %event, service_id, %client);
}

/// Records that `service` revoked a token of `user`.
pub fn record_revocation(service: &Service, user: &User, client: ClientAddress) {
    let (event, email, user) = ("token_revoked", plain(&user.email), user.public_id);
    tracing::info!(target: "audit", %event, %email, %user, %client, service = %service.name);
}

/// Escapes blanks, control characters, quotes, and characters that change the direction of text.
fn plain(email: &Email) -> String {
    let escape = |c: char| match c {
        '\'' => c.to_string(), // as in o'neil@example.com
        c if c.is_whitespace() => c.escape_unicode().to_string(),
        c => c.escape_debug().to_string(),
    };
    email.as_str().chars().map(escape).collect()
}
