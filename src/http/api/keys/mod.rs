//! `/keys`: administrators, and the operator over the admin socket, look after the keys that sign tokens.
//!
//! Guarantees: no response has a private part or a secret. Deliberately absent: adding a key from a file, which the operator alone may do
//! (`http::operator::keys`), because whoever knows a signing key can make tokens for everybody.

mod wire;

use std::sync::Arc;

use poem_openapi::OpenApi;

use crate::{
    auth::key_ring::{KeyRing, KeyRingError},
    http::{
        api::tag::Tag,
        middleware::{
            client_address::ClientAddress,
            error::{ApiError, Documented},
            extract::{Body, Path},
            guard::{AdminOrOperatorAuth, AuthGuard},
            json::Json,
        },
    },
    model::{KeyState, SigningAlgorithm, StoredKey},
};
use wire::{KeyList, KeyRemoved, KidParam, Rotated, Rotation};

pub(in crate::http) use wire::KeyJson;

/// The operations under `/keys`.
pub struct KeysApi {
    /// Authenticates callers, and has the key ring.
    pub guard: Arc<AuthGuard>,
}

#[OpenApi(prefix_path = "/keys", tag = "Tag::Keys")]
impl KeysApi {
    /// List signing keys
    ///
    /// All keys of the key ring, in the order in which they were made.
    #[oai(path = "/", method = "get", operation_id = "list_keys")]
    async fn list_keys(&self, _manager: AdminOrOperatorAuth) -> Result<Json<KeyList>, ApiError> {
        let keys = self.keys().keys()?;
        Ok(Json(KeyList { items: keys.iter().map(|key| self.json(key)).collect() }))
    }

    /// Get a signing key
    ///
    /// By its id, with its public part.
    #[oai(path = "/:kid", method = "get", operation_id = "get_key")]
    async fn get_key(
        &self,
        _manager: AdminOrOperatorAuth,
        /// The id of the key.
        kid: Path<KidParam>,
    ) -> Result<Json<KeyJson>, Documented<404>> {
        let kid = kid.text.unwrap_or_default();
        let key = self.keys().keys()?.into_iter().find(|key| key.kid == kid).ok_or(KeyRingError::NotFound)?;
        Ok(Json(self.json(&key)))
    }

    /// Rotate the signing key
    ///
    /// Makes a key that signs as soon as every verifier with cached keys knows it, after ten minutes. No session ends.
    #[oai(path = "/rotate", method = "post", operation_id = "rotate_key")]
    async fn rotate_key(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        body: Body<Rotation>,
    ) -> Result<Rotated, Documented<409>> {
        let mut fields = body.fields;
        let algorithm = fields.optional("algorithm", None, |text| {
            let found = SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == text.as_str());
            found.map(Some).ok_or("must be ES256, EdDSA, RS256 or HS256")
        });
        let now = fields.flag("now").unwrap_or(false);
        fields.finish()?;
        let key = self.keys().rotate(algorithm.flatten(), now).await?;
        manager.audit_key("key_added", &key, client);
        Ok(Rotated::Created(Json(self.json(&key)), wire::link(&key.kid)))
    }

    /// Take back a rotation
    ///
    /// Removes a key that does not sign yet. A key that is retired already stays as it is.
    #[oai(path = "/:kid/retire", method = "post", operation_id = "retire_key")]
    async fn retire_key(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The id of the key.
        kid: Path<KidParam>,
    ) -> Result<Json<KeyJson>, Documented<404, 409>> {
        let before = self.guard.auth.tokens().ring(); // it still has the public part
        let key = self.keys().cancel_next(&kid.text.unwrap_or_default()).await?;
        if matches!(key.state, KeyState::Next { .. }) {
            manager.audit_key("key_cancelled", &key, client);
        }
        Ok(Json(KeyJson::new(&key, &before)))
    }

    /// Remove a signing key
    ///
    /// Every token that it signed is invalid at the next request. The key that signs now cannot be removed.
    #[oai(path = "/:kid", method = "delete", operation_id = "remove_key")]
    async fn remove_key(
        &self,
        client: ClientAddress,
        manager: AdminOrOperatorAuth,
        /// The id of the key.
        kid: Path<KidParam>,
    ) -> Result<KeyRemoved, Documented<404, 409>> {
        let key = self.keys().remove(&kid.text.unwrap_or_default()).await?;
        manager.audit_key("key_removed", &key, client);
        Ok(KeyRemoved::NoContent)
    }
}

impl KeysApi {
    fn keys(&self) -> &KeyRing {
        self.guard.auth.key_ring()
    }

    fn json(&self, key: &StoredKey) -> KeyJson {
        KeyJson::new(key, &self.guard.auth.tokens().ring())
    }
}
