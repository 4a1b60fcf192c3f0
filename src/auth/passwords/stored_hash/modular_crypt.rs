//! Hashes that begin with `$`: the modular crypt format of Unix, the PHC string format, and what PHP programs made of them.

use argon2::{Algorithm, Argon2, Params, Version};
use scrypt::password_hash::phc::PasswordHash as Phc;

use super::{
    encoding::{base64, bcrypt_base64, number, number_in_range, passlib_base64},
    hash_function::{
        BCRYPT_COST_MAX, DigestKind, HashFunction, PBKDF2_ROUNDS_MAX, PHPASS_ALPHABET, PHPASS_LOG_ROUNDS_MAX, Prehash,
        SHA_CRYPT_ROUNDS_MAX,
    },
    parsed_hash::{ParseResult, ParsedHash},
};
use crate::auth::passwords::scrypt_cost::ScryptCost;

const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 16;
const BCRYPT_COST_MIN: u32 = 4;
const SHA_CRYPT_ROUNDS_MIN: u32 = 1000;
const SHA_CRYPT_ROUNDS_DEFAULT: u32 = 5000;
const PHPASS_LOG_ROUNDS_MIN: u8 = 7;

/// Parses a hash by its first field. `None` if the field is unknown.
pub(super) fn parse(text: &str) -> Option<ParseResult> {
    let (id, _) = text.strip_prefix('$')?.split_once('$')?;
    Some(match id {
        "2a" | "2b" | "2y" => bcrypt("bcrypt", text, Prehash::Nothing),
        "scrypt" => scrypt(text),
        "argon2id" => argon2("argon2id", Algorithm::Argon2id, text),
        "argon2i" => argon2("argon2i", Algorithm::Argon2i, text),
        "argon2d" => argon2("argon2d", Algorithm::Argon2d, text),
        "pbkdf2" | "pbkdf2-sha1" => pbkdf2("pbkdf2-sha1", DigestKind::Sha1, text),
        "pbkdf2-sha256" => pbkdf2("pbkdf2-sha256", DigestKind::Sha256, text),
        "pbkdf2-sha512" => pbkdf2("pbkdf2-sha512", DigestKind::Sha512, text),
        "bcrypt-sha256" => passlib_bcrypt(text),
        "5" => sha_crypt("sha256-crypt", 43, text),
        "6" => sha_crypt("sha512-crypt", 86, text),
        "P" | "H" => phpass("phpass", DigestKind::Md5, 22, Prehash::Nothing, text),
        "S" => phpass("Drupal 7", DigestKind::Sha512, 43, Prehash::Nothing, text),
        "wp" => bcrypt("WordPress bcrypt", &text[3..], Prehash::WordPress),
        "fbscrypt" => firebase(text),
        _ => return None,
    })
}

/// Parses the hash of an MD5 hash, which Drupal 7 made of the hashes of Drupal 6: a `U`, and the hash of the hash.
pub(super) fn hash_of_md5(text: &str) -> Option<ParseResult> {
    let text = text.strip_prefix('U')?;
    Some(match text.get(..3)? {
        "$S$" => phpass("Drupal 7 of MD5", DigestKind::Sha512, 43, Prehash::Md5Hex, text),
        "$P$" | "$H$" => phpass("phpass of MD5", DigestKind::Md5, 22, Prehash::Md5Hex, text),
        _ => return None,
    })
}

fn scrypt(text: &str) -> ParseResult {
    let phc = Phc::new(text).map_err(|error| error.to_string())?;
    let cost = ScryptCost::of(&phc.params).ok_or("its scrypt parameters are out of bounds")?;
    let (Some(salt), Some(hash)) = (phc.salt, phc.hash) else { return Err("it has no salt or no hash".to_owned()) };
    let (salt, expected) = (salt.to_vec(), hash.as_bytes().to_vec());
    Ok(ParsedHash { format: "scrypt", function: HashFunction::Scrypt(cost), salt, expected })
}

pub(super) fn argon2(format: &'static str, algorithm: Algorithm, text: &str) -> ParseResult {
    let phc = Phc::new(text).map_err(|error| error.to_string())?;
    let version = match phc.version {
        None | Some(0x10) => Version::V0x10,
        Some(0x13) => Version::V0x13,
        Some(_) => return Err("its argon2 version is unknown".to_owned()),
    };
    let params = || {
        let number = |name: &str, max| phc.params.get_decimal(name).filter(|value| *value <= max);
        let (m, t, p) = (number("m", ARGON2_KIB_MAX)?, number("t", ARGON2_PASSES_MAX)?, number("p", ARGON2_LANES_MAX)?);
        // The optional parameters `keyid` and `data` would change the result.
        let params = (phc.params.iter().count() == 3).then(|| Params::new(m, t, p, phc.hash.map(|hash| hash.len())));
        params?.ok()
    };
    let params = params().ok_or("its argon2 parameters are out of bounds")?;
    let (Some(salt), Some(hash)) = (phc.salt, phc.hash) else { return Err("it has no salt or no hash".to_owned()) };
    let function = HashFunction::Argon2(Box::new(Argon2::new(algorithm, version, params)));
    Ok(ParsedHash { format, function, salt: salt.to_vec(), expected: hash.as_bytes().to_vec() })
}

/// Parses bcrypt: `$2b$12$`, then 22 characters of salt and 31 of hash.
pub(super) fn bcrypt(format: &'static str, text: &str, prehash: Prehash) -> ParseResult {
    let malformed = || "it is a malformed bcrypt hash".to_owned();
    let known = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix));
    if !known || text.len() != 60 || !text.is_ascii() || text.as_bytes()[6] != b'$' {
        return Err(malformed());
    }
    let cost = bcrypt_cost(number(&text[4..6]).ok_or_else(malformed)?)?;
    let decode = |text| bcrypt_base64(text).map_err(|_| malformed());
    let (salt, expected) = (decode(&text[7..29])?, decode(&text[29..])?);
    Ok(ParsedHash { format, function: HashFunction::Bcrypt { cost, prehash }, salt, expected })
}

fn bcrypt_cost(cost: u32) -> Result<u32, String> {
    let fits = (BCRYPT_COST_MIN..=BCRYPT_COST_MAX).contains(&cost);
    if fits { Ok(cost) } else { Err(format!("its bcrypt cost is not from {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}")) }
}

/// Parses `$bcrypt-sha256$v=2,t=2b,r=12$salt$hash`, and `$bcrypt-sha256$2b,12$salt$hash` of the first version.
fn passlib_bcrypt(text: &str) -> ParseResult {
    let malformed = || "it is a malformed bcrypt-sha256 hash".to_owned();
    let ["", _, params, salt, hash] = text.split('$').collect::<Vec<_>>()[..] else { return Err(malformed()) };
    let (kind, cost, prehash) = match params.split(',').collect::<Vec<_>>()[..] {
        ["v=2", kind, cost] => {
            let key = salt.as_bytes().to_vec();
            (kind.strip_prefix("t="), cost.strip_prefix("r="), Prehash::HmacSha256Base64(key))
        }
        [kind, cost] => (Some(kind), Some(cost), Prehash::Sha256Base64),
        _ => return Err(malformed()),
    };
    let (Some(kind), Some(cost)) = (kind, cost.and_then(number::<u32>)) else { return Err(malformed()) };
    bcrypt("bcrypt-sha256", &format!("${kind}${cost:02}${salt}{hash}"), prehash)
}

/// Parses `$pbkdf2-sha256$29000$salt$hash` of passlib, and `$pbkdf2-sha256$i=29000,l=32$salt$hash` as a PHC string.
fn pbkdf2(format: &'static str, digest: DigestKind, text: &str) -> ParseResult {
    let ["", _, params, salt, hash] = text.split('$').collect::<Vec<_>>()[..] else {
        return Err("it has no salt or no hash".to_owned());
    };
    let rounds = params.split(',').find_map(|param| param.strip_prefix("i=")).unwrap_or(params);
    let rounds = pbkdf2_rounds(rounds)?;
    let (salt, expected) = (passlib_base64(salt)?, passlib_base64(hash)?);
    Ok(ParsedHash { format, function: HashFunction::Pbkdf2 { digest, rounds }, salt, expected })
}

pub(super) fn pbkdf2_rounds(text: &str) -> Result<u32, String> {
    number_in_range(text, 1..=PBKDF2_ROUNDS_MAX, "pbkdf2 iterations")
}

/// Parses `$6$salt$hash` and `$6$rounds=5000$salt$hash`. The hash has `length` characters.
fn sha_crypt(format: &'static str, length: usize, text: &str) -> ParseResult {
    let fields: Vec<&str> = text.split('$').skip(2).collect();
    let (rounds, salt, hash) = match fields[..] {
        [salt, hash] => (SHA_CRYPT_ROUNDS_DEFAULT, salt, hash),
        [rounds, salt, hash] => {
            let rounds = rounds.strip_prefix("rounds=").ok_or("it is a malformed SHA-crypt hash")?;
            (number_in_range(rounds, SHA_CRYPT_ROUNDS_MIN..=SHA_CRYPT_ROUNDS_MAX, "SHA-crypt rounds")?, salt, hash)
        }
        _ => return Err("it is a malformed SHA-crypt hash".to_owned()),
    };
    let is_text = hash.bytes().all(|byte| PHPASS_ALPHABET.contains(&byte));
    if hash.len() != length || !is_text || salt.len() > 16 {
        return Err("it is a malformed SHA-crypt hash".to_owned());
    }
    let function = HashFunction::ShaCrypt { text: text.to_owned(), rounds };
    Ok(ParsedHash { format, function, salt: salt.as_bytes().to_vec(), expected: hash.as_bytes()[..43].to_vec() })
}

/// Parses `$P$`, one character for the rounds, 8 characters of salt, and `length` characters of hash.
fn phpass(format: &'static str, digest: DigestKind, length: usize, prehash: Prehash, text: &str) -> ParseResult {
    let malformed = || format!("it is a malformed hash of {format}");
    let bytes = text.as_bytes();
    if bytes.len() != 12 + length || !bytes[3..].iter().all(|byte| PHPASS_ALPHABET.contains(byte)) {
        return Err(malformed());
    }
    let log_rounds = PHPASS_ALPHABET.iter().position(|letter| *letter == bytes[3]);
    let log_rounds = log_rounds.and_then(|place| u8::try_from(place).ok()).ok_or_else(malformed)?;
    if !(PHPASS_LOG_ROUNDS_MIN..=PHPASS_LOG_ROUNDS_MAX).contains(&log_rounds) {
        return Err("its rounds are out of bounds".to_owned());
    }
    let function = HashFunction::Phpass { digest, log_rounds, prehash };
    Ok(ParsedHash { format, function, salt: bytes[4..12].to_vec(), expected: bytes[12..].to_vec() })
}

/// Parses `$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=…$salt$hash`: the hash of Firebase with the parameters of its project. `n` is the
/// `mem_cost`, a power of two; `ss` is the salt separator and `sk` the signer key, in base64.
fn firebase(text: &str) -> ParseResult {
    let malformed = || "it is a malformed hash of Firebase scrypt".to_owned();
    let ["", _, params, salt, hash] = text.split('$').collect::<Vec<_>>()[..] else { return Err(malformed()) };
    let param = |name: &str| params.split(',').find_map(|param| param.strip_prefix(name)?.strip_prefix('='));
    let (Some("1"), Some(log_n), Some(r), Some(p), Some(signer_key)) =
        (param("v"), param("n"), param("r"), param("p"), param("sk"))
    else {
        return Err(malformed());
    };
    let cost = || ScryptCost::new(number(log_n)?, number(r)?, number(p)?);
    let cost = cost().ok_or("its scrypt parameters are out of bounds")?;
    let (signer_key, expected) = (base64(signer_key)?, base64(hash)?);
    if signer_key.len() != expected.len() {
        return Err("its hash is not as long as its signer key".to_owned());
    }
    let salt = [base64(salt)?, base64(param("ss").unwrap_or_default())?].concat();
    Ok(ParsedHash {
        format: "Firebase scrypt",
        function: HashFunction::FirebaseScrypt { cost, signer_key },
        salt,
        expected,
    })
}
