//! A password in plain text, and the requirements for new passwords.
//!
//! Guarantees: a password is wiped from memory after use. It is the same on every keyboard: its text is normalised (NFKC, NIST SP 800-63B
//! §3.1.1.2). Nothing is trimmed or cut.

use std::{borrow::Cow, collections::HashSet, sync::LazyLock};

use zeroize::Zeroizing;

use crate::{model::Email, unicode::nfkc};

/// A password in plain text. It has no `Debug` and no `Clone`, and is wiped from memory when it is dropped.
pub struct Password {
    normalised: Zeroizing<String>,
    /// The text as it was given, if it is not normalised.
    given: Option<Zeroizing<String>>,
}

impl Password {
    /// Takes the text as it was typed.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        let normalised = match nfkc(&text) {
            Cow::Owned(normalised) if normalised != *text => Some(Zeroizing::new(normalised)),
            _ => None,
        };
        match normalised {
            Some(normalised) => Self { normalised, given: Some(text) },
            None => Self { normalised: text, given: None },
        }
    }

    /// Returns the normalised text.
    pub(in crate::auth) fn bytes(&self) -> &[u8] {
        self.normalised.as_bytes()
    }

    /// Takes the text as it was given away, as a password that is not normalised: for a hash that was made of such text. `None` if the text
    /// was given normalised.
    pub(in crate::auth) fn take_unnormalised(&mut self) -> Option<Self> {
        Some(Self { normalised: self.given.take()?, given: None })
    }

    /// Whether the text was given in another form than the normalised one, which [`Password::take_unnormalised`] returns.
    pub(in crate::auth) fn is_unnormalised(&self) -> bool {
        self.given.is_some()
    }
}

/// The requirements for new passwords.
#[derive(Debug, Clone)]
pub struct PasswordPolicy {
    /// The minimum number of characters (Unicode scalar values), as they are typed.
    pub chars_min: usize,
    /// The maximum number of characters.
    pub chars_max: usize,
    /// Whether commonly used passwords are accepted.
    pub allow_common: bool,
}

/// Why the policy rejects a password.
#[derive(Debug, thiserror::Error)]
pub enum WeakPassword {
    /// It has fewer characters than the policy requires. Has the minimum.
    #[error("must have at least {0} characters")]
    TooShort(usize),
    /// It has more characters than the policy allows. Has the maximum.
    #[error("must have at most {0} characters")]
    TooLong(usize),
    /// It is on the list of commonly used passwords.
    #[error("is one of the most commonly used passwords")]
    Common,
    /// It equals the email of its account.
    #[error("must not be the email itself")]
    IsEmail,
}

/// The 20,000 or so most frequent passwords in published breaches, in lower case.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

impl PasswordPolicy {
    /// Checks a new password (NIST SP 800-63B §3.1.1.2) for the account with this email, if it is known.
    ///
    /// # Errors
    /// [`WeakPassword`] has the first requirement that is not met.
    pub fn check(&self, password: &Password, email: Option<&Email>) -> Result<(), WeakPassword> {
        let text = password.normalised.as_str();
        // The characters as they were typed, which is what the OpenAPI document says: normalising may add some or join some.
        let chars = password.given.as_ref().unwrap_or(&password.normalised).chars().count();
        let lowercase = Zeroizing::new(text.to_lowercase());
        if chars < self.chars_min {
            Err(WeakPassword::TooShort(self.chars_min))
        } else if chars > self.chars_max {
            Err(WeakPassword::TooLong(self.chars_max))
        } else if email.is_some_and(|email| {
            email.key() == *lowercase || nfkc(&email.as_str().to_lowercase()) == lowercase.as_str()
        }) {
            Err(WeakPassword::IsEmail)
        } else if !self.allow_common && COMMON.contains(lowercase.as_str()) {
            Err(WeakPassword::Common)
        } else {
            Ok(())
        }
    }
}
