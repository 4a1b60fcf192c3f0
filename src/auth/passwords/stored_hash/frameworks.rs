//! Hashes of the web frameworks Django, Werkzeug and ASP.NET.

use argon2::Algorithm;

use super::{
    encoding::{base64, hex, number},
    hash_function::{DigestKind, HashFunction, Prehash},
    modular_crypt::{argon2, bcrypt, pbkdf2_rounds},
    parsed_hash::{ParseResult, ParsedHash},
};
use crate::auth::passwords::scrypt_cost::ScryptCost;

/// Parses `METHOD$…` of Django and Werkzeug. `None` if the method is unknown.
pub(super) fn django_or_werkzeug(text: &str) -> Option<ParseResult> {
    let (method, rest) = text.split_once('$')?;
    Some(match method {
        "pbkdf2_sha256" => django_pbkdf2("Django pbkdf2_sha256", DigestKind::Sha256, rest),
        "pbkdf2_sha1" => django_pbkdf2("Django pbkdf2_sha1", DigestKind::Sha1, rest),
        "argon2" => django_argon2(rest),
        "scrypt" => django_scrypt(rest),
        "bcrypt" => bcrypt("Django bcrypt", rest, Prehash::Nothing),
        "bcrypt_sha256" => bcrypt("Django bcrypt_sha256", rest, Prehash::Sha256Hex),
        "sha256" => werkzeug("Werkzeug sha256", Ok(HashFunction::SaltedHmac(DigestKind::Sha256)), rest),
        "sha512" => werkzeug("Werkzeug sha512", Ok(HashFunction::SaltedHmac(DigestKind::Sha512)), rest),
        _ => match method.split(':').collect::<Vec<_>>()[..] {
            ["scrypt", n, r, p] => werkzeug("Werkzeug scrypt", scrypt_of(n, r, p), rest),
            ["pbkdf2", "sha1", rounds] => werkzeug("Werkzeug pbkdf2:sha1", pbkdf2_of(DigestKind::Sha1, rounds), rest),
            ["pbkdf2", "sha256", rounds] => {
                werkzeug("Werkzeug pbkdf2:sha256", pbkdf2_of(DigestKind::Sha256, rounds), rest)
            }
            ["pbkdf2", "sha512", rounds] => {
                werkzeug("Werkzeug pbkdf2:sha512", pbkdf2_of(DigestKind::Sha512, rounds), rest)
            }
            _ => return None,
        },
    })
}

fn pbkdf2_of(digest: DigestKind, rounds: &str) -> Result<HashFunction, String> {
    Ok(HashFunction::Pbkdf2 { digest, rounds: pbkdf2_rounds(rounds)? })
}

/// `n` is the number itself, not its logarithm.
fn scrypt_of(n: &str, r: &str, p: &str) -> Result<HashFunction, String> {
    let cost = || {
        let n = number::<u32>(n).filter(|n| n.is_power_of_two())?;
        ScryptCost::new(u8::try_from(n.trailing_zeros()).ok()?, number(r)?, number(p)?)
    };
    Ok(HashFunction::Scrypt(cost().ok_or("its scrypt parameters are out of bounds")?))
}

/// Parses `salt$hex`. The salt is the bytes of its text, not decoded, in Werkzeug and in Django.
fn werkzeug(format: &'static str, function: Result<HashFunction, String>, rest: &str) -> ParseResult {
    let (salt, output) = rest.split_once('$').ok_or("it has no salt or no hash")?;
    Ok(ParsedHash { format, function: function?, salt: salt.as_bytes().to_vec(), expected: hex(output)? })
}

/// Parses `600000$salt$base64`.
fn django_pbkdf2(format: &'static str, digest: DigestKind, rest: &str) -> ParseResult {
    let [rounds, salt, hash] = rest.split('$').collect::<Vec<_>>()[..] else {
        return Err("it has no salt or no hash".to_owned());
    };
    let function = pbkdf2_of(digest, rounds)?;
    Ok(ParsedHash { format, function, salt: salt.as_bytes().to_vec(), expected: base64(hash)? })
}

/// Parses `argon2id$v=19$…`, a PHC string without its first character.
fn django_argon2(rest: &str) -> ParseResult {
    let algorithm = match rest.split_once('$').map(|(algorithm, _)| algorithm) {
        Some("argon2id") => Algorithm::Argon2id,
        Some("argon2i") => Algorithm::Argon2i,
        Some("argon2d") => Algorithm::Argon2d,
        _ => return Err("its kind of argon2 is unknown".to_owned()),
    };
    argon2("Django argon2", algorithm, &format!("${rest}"))
}

/// Parses `16384$salt$8$1$base64`.
fn django_scrypt(rest: &str) -> ParseResult {
    let [n, salt, r, p, hash] = rest.split('$').collect::<Vec<_>>()[..] else {
        return Err("it has no salt or no hash".to_owned());
    };
    let (function, expected) = (scrypt_of(n, r, p)?, base64(hash)?);
    Ok(ParsedHash { format: "Django scrypt", function, salt: salt.as_bytes().to_vec(), expected })
}

/// Parses the base64 of ASP.NET Identity, version 2 or 3. `None` if it is something else.
pub(super) fn asp_net(text: &str) -> Option<ParseResult> {
    const V2_SALT_BYTES: usize = 16;
    const V2_BYTES: usize = 1 + V2_SALT_BYTES + 32;
    if !text.is_ascii() || !(64..=200).contains(&text.len()) {
        return None;
    }
    let bytes = base64(text).ok()?;
    match bytes.split_first()? {
        (0, rest) if bytes.len() == V2_BYTES => {
            let (salt, expected) = rest.split_at(V2_SALT_BYTES);
            let function = HashFunction::Pbkdf2 { digest: DigestKind::Sha1, rounds: 1000 };
            let (salt, expected) = (salt.to_vec(), expected.to_vec());
            Some(Ok(ParsedHash { format: "ASP.NET Identity 2", function, salt, expected }))
        }
        (1, rest) => Some(asp_net_3(rest)),
        _ => None,
    }
}

/// Parses the digest, the number of rounds and the length of the salt (4 bytes each, big endian), the salt and the hash.
fn asp_net_3(bytes: &[u8]) -> ParseResult {
    let malformed = || "it is a malformed hash of ASP.NET Identity".to_owned();
    let word = |place: usize| {
        let bytes = bytes.get(place * 4..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(malformed)
    };
    let digest = match word(0)? {
        0 => DigestKind::Sha1,
        1 => DigestKind::Sha256,
        2 => DigestKind::Sha512,
        _ => return Err(malformed()),
    };
    let function = pbkdf2_of(digest, &word(1)?.to_string())?;
    let salt_bytes = usize::try_from(word(2)?).map_err(|_| malformed())?;
    let (salt, expected) = bytes[12..].split_at_checked(salt_bytes).ok_or_else(malformed)?;
    Ok(ParsedHash { format: "ASP.NET Identity 3", function, salt: salt.to_vec(), expected: expected.to_vec() })
}
