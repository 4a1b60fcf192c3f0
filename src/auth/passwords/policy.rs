//! A password in clear, and the rules for a new one.
//!
//! Guarantees: a password is wiped from memory after use. Deliberately absent: normalisation; passwords are compared exactly.

use std::{collections::HashSet, sync::LazyLock};

use zeroize::Zeroizing;

use crate::model::Email;

/// What someone typed as a password. No `Debug`, no `Clone`, wiped on drop.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the text exactly as it is.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    pub(in crate::auth) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What a new password must be like.
#[derive(Debug, Clone)]
pub struct PasswordPolicy {
    /// The fewest characters (Unicode scalar values).
    pub chars_min: usize,
    /// The most characters.
    pub chars_max: usize,
    /// Whether passwords that everybody uses are fine.
    pub allow_common: bool,
}

/// Why a password cannot be used for an account.
#[derive(Debug, thiserror::Error)]
pub enum WeakPassword {
    /// It has fewer characters than the policy asks for.
    #[error("must have at least {0} characters")]
    TooShort(usize),
    /// It has more characters than the policy allows.
    #[error("must have at most {0} characters")]
    TooLong(usize),
    /// It is on the list of those that are tried first.
    #[error("is one of the most commonly used passwords")]
    Common,
    /// It equals the email of its account.
    #[error("must not be the email itself")]
    IsEmail,
}

/// About 20,000 passwords that lead the lists of stolen ones, in lower case.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

impl PasswordPolicy {
    /// Whether `password` may be the password of the account `email`, where that is known (NIST SP 800-63B §3.1.1.2).
    ///
    /// # Errors
    /// [`WeakPassword`] names the first reason against it.
    pub fn check(&self, password: &Password, email: Option<&Email>) -> Result<(), WeakPassword> {
        let text = password.0.as_str();
        let chars = text.chars().count();
        let lowercase = Zeroizing::new(text.to_lowercase());
        if chars < self.chars_min {
            Err(WeakPassword::TooShort(self.chars_min))
        } else if chars > self.chars_max {
            Err(WeakPassword::TooLong(self.chars_max))
        } else if email.is_some_and(|email| email.key() == *lowercase) {
            Err(WeakPassword::IsEmail)
        } else if !self.allow_common && COMMON.contains(lowercase.as_str()) {
            Err(WeakPassword::Common)
        } else {
            Ok(())
        }
    }
}
