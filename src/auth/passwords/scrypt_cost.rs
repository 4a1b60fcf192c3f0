//! scrypt and its cost parameters.
//!
//! Guarantees: no setting and no stored hash exceeds the bounds here. Each new hash has its own salt.

use std::{fmt, str::FromStr};

use scrypt::{
    Params,
    password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt},
};

use crate::{auth::passwords::policy::Password, model::PasswordHash, random};

const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

/// The cost of one scrypt hash (RFC 7914 §2), within bounds that no setting and no stored hash can leave:
/// `ln` 1 to 18, `r` 1 to 8, `p` 1 to 10. Written `ln=15,r=8,p=3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScryptCost {
    log_n: u8,
    r: u32,
    p: u32,
}

impl ScryptCost {
    pub(in crate::auth) fn new(log_n: u8, r: u32, p: u32) -> Option<Self> {
        let bounded = (1..=18).contains(&log_n) && (1..=8).contains(&r) && (1..=10).contains(&p);
        bounded.then_some(Self { log_n, r, p })
    }

    pub(in crate::auth) fn of(params: &ParamsString) -> Option<Self> {
        let number = |name| params.get_decimal(name);
        Self::new(u8::try_from(number("ln")?).ok()?, number("r")?, number("p")?)
    }

    /// Returns the memory that one hash takes, in bytes.
    #[must_use]
    pub fn memory_bytes(self) -> u64 {
        128 * u64::from(self.r) * (1 << self.log_n)
    }

    /// Whether the cost is at least the lowest that the OWASP Password Storage Cheat Sheet recommends.
    #[must_use]
    pub fn is_strong(self) -> bool {
        self.work() >= Self { log_n: 13, r: 8, p: 10 }.work()
    }

    /// Returns the work of one hash: its memory in bytes times the number of passes `p`.
    pub(in crate::auth) fn work(self) -> u64 {
        self.memory_bytes() * u64::from(self.p)
    }

    /// Hashes `password` with a new salt.
    pub(in crate::auth) fn hash(self, password: &Password) -> PasswordHash {
        let salt = random::bytes::<SALT_BYTES>();
        let mut output = [0; HASH_BYTES];
        self.derive(password, &salt, &mut output);
        self.phc(&salt, &output)
    }

    /// Returns a random hash of this cost. No known password matches it.
    pub(in crate::auth) fn decoy(self) -> PasswordHash {
        self.phc(&random::bytes::<SALT_BYTES>(), &random::bytes::<HASH_BYTES>())
    }

    pub(in crate::auth) fn derive(self, password: &Password, salt: &[u8], output: &mut [u8]) {
        let params = Params::new(self.log_n, self.r, self.p).expect("BUG: bounded parameters are valid");
        scrypt::scrypt(password.bytes(), salt, &params, output).expect("BUG: the output has a valid length");
    }

    fn phc(self, salt: &[u8], output: &[u8]) -> PasswordHash {
        let mut params = ParamsString::new();
        for (name, value) in [("ln", u32::from(self.log_n)), ("r", self.r), ("p", self.p)] {
            params.add_decimal(name, value).expect("BUG: three short parameters fit");
        }
        let phc = Phc {
            algorithm: scrypt::phc::ALG_ID,
            version: None,
            params,
            salt: Some(Salt::new(salt).expect("BUG: the salt has a valid length")),
            hash: Some(Output::new(output).expect("BUG: the output has a valid length")),
        };
        PasswordHash::new(phc.to_string())
    }
}

impl fmt::Display for ScryptCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ln={},r={},p={}", self.log_n, self.r, self.p)
    }
}

impl FromStr for ScryptCost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let params: Option<ParamsString> = text.parse().ok();
        let cost = params.filter(|params| params.iter().count() == 3).and_then(|params| Self::of(&params));
        cost.ok_or_else(|| "write it like ln=15,r=8,p=3 (ln 1 to 18, r 1 to 8, p 1 to 10)".to_owned())
    }
}
