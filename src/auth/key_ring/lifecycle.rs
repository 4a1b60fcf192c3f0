//! How keys are chosen and what becomes of them in time, as plain functions on stored keys, and the audit events about it.

use std::time::Duration;

use crate::model::{KeyState, SigningAlgorithm, StoredKey};

/// How long a verifier may cache the public keys, in seconds.
pub const JWKS_CACHED_S: u64 = 300;
/// How long a key is published before it signs, in seconds.
pub(super) const PREPUBLICATION_S: u64 = 2 * JWKS_CACHED_S;
/// How long a retired key is kept after the last token that it is known to have signed has expired, in seconds. While the retirement is
/// written to the disk, the key still signs.
const RETIREMENT_MARGIN_S: u64 = 60;

/// How the keys are chosen.
#[derive(Debug, Clone)]
pub struct KeyRingSettings {
    /// The algorithm of the first key, if there was no key before and the operator gives no secret, and of the keys of later rotations.
    pub algorithm: SigningAlgorithm,
    /// Whether the operator gives the secret. The first key is then the secret itself.
    pub secret_is_given: bool,
    /// The age at which the current key is replaced, or `None` for never.
    pub rotation: Option<Duration>,
}

/// Retires the current key.
pub(super) fn retire_current(keys: &mut [StoredKey], now_s: u64, latest_issue_s: u64) {
    for key in keys.iter_mut().filter(|key| matches!(key.state, KeyState::Current { .. })) {
        let until_s = latest_issue_s.saturating_add(key.token_lifetime_max_s).saturating_add(RETIREMENT_MARGIN_S);
        key.state = KeyState::Retired { since_s: now_s, until_s };
    }
}

/// Makes a next key the current one when it is time, and removes retired keys whose tokens have expired.
pub(super) fn apply_due_transitions(keys: &mut Vec<StoredKey>, now_s: u64, latest_issue_s: u64) {
    for key in keys.iter_mut() {
        // Where the clock was set back, the key need not wait longer than if it were new.
        if let KeyState::Next { signs_from_s } = &mut key.state {
            *signs_from_s = (*signs_from_s).min(now_s + PREPUBLICATION_S);
        }
    }
    let is_due = |key: &StoredKey| matches!(key.state, KeyState::Next { signs_from_s } if signs_from_s <= now_s);
    if let Some(due) = keys.iter().position(is_due) {
        retire_current(keys, now_s, latest_issue_s);
        keys[due].state = KeyState::Current { since_s: now_s };
    }
    keys.retain(|key| !matches!(key.state, KeyState::Retired { until_s, .. } if until_s <= now_s));
}

/// Records what happened without anybody's call.
pub(super) fn log_changes(before: &[StoredKey], after: &[StoredKey]) {
    for key in before.iter().filter(|key| after.iter().all(|kept| kept.kid != key.kid)) {
        log("key_removed", key);
    }
    for key in after.iter().filter(|key| !before.contains(key)) {
        match key.state {
            KeyState::Next { .. } => {}
            KeyState::Current { .. } => log("key_signs", key),
            KeyState::Retired { .. } => log("key_retired", key),
        }
    }
}

/// Records what the server did to a key by itself.
pub(super) fn log(event: &'static str, key: &StoredKey) {
    tracing::info!(target: "audit", %event, kid = %key.kid, algorithm = %key.algorithm, by = %"server");
}
