//! The password of every user in the data sets, and its hash at the default cost.

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use scrypt::Params;

use crate::settings;

pub(crate) const PASSWORD: &str = "correct horse battery";
const SALT: &[u8; 16] = b"salt of a bench.";

/// The cost of a password hash.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    log_n: u8,
    r: u32,
    p: u32,
}

impl Cost {
    /// Returns the cost that the server uses by default.
    pub(crate) fn default_setting() -> Self {
        let text = settings::default().scrypt.to_string();
        let value = |part: &str| part.split_once('=').and_then(|(_, value)| value.parse().ok());
        match text.split(',').map(value).collect::<Option<Vec<u32>>>().as_deref() {
            Some(&[log_n, r, p]) => Self { log_n: u8::try_from(log_n).unwrap_or(u8::MAX), r, p },
            _ => panic!("the default cost reads {text}"),
        }
    }

    pub(crate) fn memory_bytes(self) -> f64 {
        128.0 * f64::from(self.r) * 2_f64.powi(self.log_n.into())
    }

    /// Computes one hash of [`PASSWORD`].
    pub(crate) fn hash(self) -> [u8; 32] {
        let params = Params::new(self.log_n, self.r, self.p).expect("the default cost is valid");
        let mut output = [0; 32];
        scrypt::scrypt(PASSWORD.as_bytes(), SALT, &params, &mut output).expect("the length is valid");
        output
    }

    /// Returns the hash of [`PASSWORD`] in the format in which it is stored.
    pub(crate) fn phc(self) -> String {
        let Self { log_n, r, p } = self;
        let (salt, hash) = (BASE64_STANDARD_NO_PAD.encode(SALT), BASE64_STANDARD_NO_PAD.encode(self.hash()));
        format!("$scrypt$ln={log_n},r={r},p={p}${salt}${hash}")
    }
}
