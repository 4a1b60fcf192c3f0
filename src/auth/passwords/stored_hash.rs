//! Stored password hashes: our own, and those of users imported from other systems.
//!
//! Guarantees: a hash is parsed completely before anything is computed, and one whose parameters exceed the bounds here never runs. The
//! comparison takes constant time. A hash of another kind than the current scrypt setting is verified as it is; the next login that
//! succeeds without load replaces it. Deliberately absent: making any hash except scrypt.
//!
//! The formats are scrypt and argon2 as PHC strings, bcrypt in its own format, and those of Werkzeug (`scrypt:…`, `pbkdf2:…`).

use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use scrypt::password_hash::phc::PasswordHash as Phc;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::{
    auth::passwords::{policy::Password, scrypt_cost::ScryptCost},
    model::PasswordHash,
};

/// The longest text that is parsed. No known format is longer.
const TEXT_BYTES_MAX: usize = 512;
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 16;
const BCRYPT_COST_MIN: u32 = 4;
const BCRYPT_COST_MAX: u32 = 14;
const PBKDF2_ROUNDS_MAX: u32 = 2_000_000;
/// The work of one unit, as the number of scrypt bytes that take about as long. A rough estimate is enough for the admission queue.
const ARGON2_KIB_WORK: u64 = 320;
const BCRYPT_ROUND_WORK: u64 = 30_000;
const PBKDF2_SHA256_ROUND_WORK: u64 = 150;
const PBKDF2_SHA512_ROUND_WORK: u64 = 300;
/// The accepted length of a hash in bytes. A shorter one could match by chance.
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 10..=64;

/// Why a stored hash can never be verified.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableHash(String);

/// A parsed hash whose parameters are within bounds.
pub struct StoredHash {
    kind: Kind,
    salt: Vec<u8>,
    expected: Vec<u8>,
}

enum Kind {
    /// `ours` if it has the format of new hashes.
    Scrypt {
        cost: ScryptCost,
        ours: bool,
    },
    Argon2(Box<Argon2<'static>>),
    Bcrypt(u32),
    Pbkdf2Sha256(u32),
    Pbkdf2Sha512(u32),
}

impl StoredHash {
    /// Parses a hash and checks its parameters against the bounds. Nothing is computed.
    ///
    /// # Errors
    /// [`UnusableHash`] if it is malformed, of an unknown kind, or exceeds the bounds.
    pub fn read(hash: &PasswordHash) -> Result<Self, UnusableHash> {
        let text = hash.as_str();
        let read = if text.len() > TEXT_BYTES_MAX {
            Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"))
        } else if text.starts_with("$2") {
            bcrypt(text)
        } else if text.starts_with('$') {
            phc(text)
        } else if let Some((method, rest)) = text.split_once('$') {
            werkzeug(method, rest)
        } else {
            Err("it is not a hash of scrypt, argon2, bcrypt or Werkzeug".to_owned())
        };
        let read = read.map_err(UnusableHash)?;
        let fits = OUTPUT_BYTES.contains(&read.expected.len());
        if fits { Ok(read) } else { Err(UnusableHash("its output is too short or too long".to_owned())) }
    }

    /// Whether `password` matches. This is as expensive as computing the hash.
    #[must_use]
    pub fn matches(&self, password: &Password) -> bool {
        let (typed, salt) = (password.bytes(), self.salt.as_slice());
        let mut actual = vec![0; self.expected.len()];
        match &self.kind {
            Kind::Scrypt { cost, .. } => cost.derive(password, salt, &mut actual),
            Kind::Argon2(argon2) => {
                argon2.hash_password_into(typed, salt, &mut actual).expect("BUG: bounded parameters are valid");
            }
            Kind::Bcrypt(cost) => {
                // As in Python's bcrypt: the password with a zero byte at its end, cut off after 72 bytes. A zero byte inside the
                // password has no special meaning.
                let mut bytes = [typed, &[0]].concat();
                bytes.truncate(72);
                let salt = salt.try_into().expect("BUG: a bcrypt salt was read as 16 bytes");
                let length = actual.len();
                actual.copy_from_slice(&bcrypt::bcrypt(*cost, salt, &bytes)[..length]);
                zeroize::Zeroize::zeroize(&mut bytes);
            }
            Kind::Pbkdf2Sha256(rounds) => pbkdf2::pbkdf2_hmac::<Sha256>(typed, salt, *rounds, &mut actual),
            Kind::Pbkdf2Sha512(rounds) => pbkdf2::pbkdf2_hmac::<Sha512>(typed, salt, *rounds, &mut actual),
        }
        actual.ct_eq(&self.expected).into()
    }

    /// Returns the work of one verification, as the number of scrypt bytes that take about as long.
    pub(in crate::auth) fn work(&self) -> u64 {
        match &self.kind {
            Kind::Scrypt { cost, .. } => cost.work(),
            Kind::Argon2(argon2) => {
                let params = argon2.params();
                u64::from(params.m_cost()) * u64::from(params.t_cost()) * ARGON2_KIB_WORK
            }
            Kind::Bcrypt(cost) => BCRYPT_ROUND_WORK << cost,
            Kind::Pbkdf2Sha256(rounds) => u64::from(*rounds) * PBKDF2_SHA256_ROUND_WORK,
            Kind::Pbkdf2Sha512(rounds) => u64::from(*rounds) * PBKDF2_SHA512_ROUND_WORK,
        }
    }

    /// Whether a new hash of cost `cost` should replace this one.
    #[must_use]
    pub fn is_weaker_than(&self, cost: ScryptCost) -> bool {
        match &self.kind {
            Kind::Scrypt { cost: stored, ours: true } => stored.work() < cost.work(),
            _ => true,
        }
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn phc(text: &str) -> Result<StoredHash, String> {
    let phc = Phc::new(text).map_err(|error| error.to_string())?;
    let (Some(salt), Some(expected)) = (phc.salt, phc.hash) else { return Err("it has no salt or no hash".to_owned()) };
    let kind = match phc.algorithm.as_str() {
        "scrypt" => {
            let cost = ScryptCost::of(&phc.params).ok_or("its scrypt parameters are out of bounds")?;
            Kind::Scrypt { cost, ours: true }
        }
        "argon2id" => argon2(Algorithm::Argon2id, &phc)?,
        "argon2i" => argon2(Algorithm::Argon2i, &phc)?,
        "argon2d" => argon2(Algorithm::Argon2d, &phc)?,
        _ => return Err("it is neither scrypt nor argon2 nor bcrypt".to_owned()),
    };
    Ok(StoredHash { kind, salt: salt.to_vec(), expected: expected.as_bytes().to_vec() })
}

fn argon2(algorithm: Algorithm, phc: &Phc) -> Result<Kind, String> {
    let version = match phc.version {
        None | Some(0x10) => Version::V0x10,
        Some(0x13) => Version::V0x13,
        Some(_) => return Err("its argon2 version is unknown".to_owned()),
    };
    let bounded = || {
        let number = |name: &str, max| phc.params.get_decimal(name).filter(|value| *value <= max);
        let (m, t, p) = (number("m", ARGON2_KIB_MAX)?, number("t", ARGON2_PASSES_MAX)?, number("p", ARGON2_LANES_MAX)?);
        // The optional parameters `keyid` and `data` would change the result.
        let params = (phc.params.iter().count() == 3).then(|| Params::new(m, t, p, phc.hash.map(|hash| hash.len())));
        params?.ok()
    };
    let params = bounded().ok_or("its argon2 parameters are out of bounds")?;
    Ok(Kind::Argon2(Box::new(Argon2::new(algorithm, version, params))))
}

/// Parses bcrypt: `$2b$12$`, then 22 characters of salt and 31 of hash.
fn bcrypt(text: &str) -> Result<StoredHash, String> {
    // The last character of each part has unused bits, which not every implementation sets to zero.
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone);
    let base64 = GeneralPurpose::new(&alphabet::BCRYPT, config);
    let malformed = || "it is a malformed bcrypt hash".to_owned();
    let known = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix));
    if !known || text.len() != 60 || !text.is_ascii() || text.as_bytes()[6] != b'$' {
        return Err(malformed());
    }
    let cost = number(&text[4..6]).ok_or_else(malformed)?;
    if !(BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost) {
        return Err(format!("its bcrypt cost is not from {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}"));
    }
    let decode = |text| base64.decode(text).map_err(|_| malformed());
    Ok(StoredHash { kind: Kind::Bcrypt(cost), salt: decode(&text[7..29])?, expected: decode(&text[29..])? })
}

/// Parses `scrypt:32768:8:1$salt$hex` and `pbkdf2:sha256:600000$salt$hex`. The salt is the bytes of its text, not decoded.
fn werkzeug(method: &str, rest: &str) -> Result<StoredHash, String> {
    let (salt, hex) = rest.split_once('$').ok_or("it has no salt or no hash")?;
    let parts: Vec<&str> = method.split(':').collect();
    let kind = match parts[..] {
        ["scrypt", n, r, p] => {
            let cost = || {
                let n = number::<u32>(n).filter(|n| n.is_power_of_two())?;
                ScryptCost::new(u8::try_from(n.trailing_zeros()).ok()?, number(r)?, number(p)?)
            };
            Kind::Scrypt { cost: cost().ok_or("its scrypt parameters are out of bounds")?, ours: false }
        }
        ["pbkdf2", digest @ ("sha256" | "sha512"), rounds] => {
            let rounds = number(rounds).filter(|rounds| (1..=PBKDF2_ROUNDS_MAX).contains(rounds));
            let rounds = rounds.ok_or("its pbkdf2 iterations are out of bounds")?;
            if digest == "sha256" { Kind::Pbkdf2Sha256(rounds) } else { Kind::Pbkdf2Sha512(rounds) }
        }
        _ => return Err("it is not a hash of scrypt, argon2, bcrypt or Werkzeug".to_owned()),
    };
    let expected = unhex(hex).ok_or("its output is not hexadecimal")?;
    Ok(StoredHash { kind, salt: salt.as_bytes().to_vec(), expected })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
