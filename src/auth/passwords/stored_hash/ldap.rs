//! Hashes that begin with a scheme in braces, as LDAP servers and Dovecot write them.

use super::{
    encoding::{base64, hex, passlib_base64},
    hash_function::{DigestKind, HashFunction},
    modular_crypt::{self, pbkdf2_rounds},
    parsed_hash::{OUTPUT_BYTES_MAX, ParseResult, ParsedHash},
};

/// Splits `{SCHEME}rest`. The scheme is returned in upper case, because its letter case has no meaning.
pub(super) fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.strip_prefix('{')?.split_once('}')?;
    Some((scheme.to_ascii_uppercase(), rest))
}

/// Parses a hash by its scheme. `None` if the scheme is unknown.
pub(super) fn parse(text: &str) -> Option<ParseResult> {
    let (scheme, rest) = split_scheme(text)?;
    // Dovecot names the encoding behind the scheme.
    let (scheme, encoding) = scheme.split_once('.').unwrap_or((&scheme, ""));
    Some(match scheme {
        "SSHA" => salted("SSHA", DigestKind::Sha1, 20, encoding, rest),
        "SSHA256" => salted("SSHA256", DigestKind::Sha256, 32, encoding, rest),
        "SSHA512" => salted("SSHA512", DigestKind::Sha512, 64, encoding, rest),
        "CRYPT" | "BLF-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" | "ARGON2" | "ARGON2I" | "ARGON2ID" => {
            let text = if encoding.is_empty() { Ok(rest.as_bytes().to_vec()) } else { decode(encoding, rest) };
            return match text.map(String::from_utf8) {
                Ok(Ok(text)) => modular_crypt::parse(&text),
                Ok(Err(_)) => None,
                Err(why) => Some(Err(why)),
            };
        }
        "PBKDF2" if rest.starts_with('$') => dovecot_pbkdf2(rest),
        "PBKDF2" | "PBKDF2-SHA1" => pbkdf2("LDAP PBKDF2-SHA1", DigestKind::Sha1, rest),
        "PBKDF2-SHA256" => pbkdf2("LDAP PBKDF2-SHA256", DigestKind::Sha256, rest),
        "PBKDF2-SHA512" => pbkdf2("LDAP PBKDF2-SHA512", DigestKind::Sha512, rest),
        "PBKDF2_SHA256" => directory_server_389(rest),
        _ => return None,
    })
}

fn decode(encoding: &str, text: &str) -> Result<Vec<u8>, String> {
    match encoding {
        "HEX" => hex(text),
        "" | "B64" | "BASE64" => base64(text),
        _ => Err(format!("its encoding {encoding} is unknown")),
    }
}

/// Parses the digest of password and salt, and the salt.
fn salted(format: &'static str, digest: DigestKind, length: usize, encoding: &str, text: &str) -> ParseResult {
    let bytes = decode(encoding, text)?;
    let (expected, salt) = bytes.split_at_checked(length).ok_or("its output is too short")?;
    let function = HashFunction::SaltedDigest(digest);
    Ok(ParsedHash { format, function, salt: salt.to_vec(), expected: expected.to_vec() })
}

/// Parses `10000$salt$hash` of `OpenLDAP` and passlib.
fn pbkdf2(format: &'static str, digest: DigestKind, text: &str) -> ParseResult {
    let [rounds, salt, hash] = text.split('$').collect::<Vec<_>>()[..] else {
        return Err("it has no salt or no hash".to_owned());
    };
    let function = HashFunction::Pbkdf2 { digest, rounds: pbkdf2_rounds(rounds)? };
    Ok(ParsedHash { format, function, salt: passlib_base64(salt)?, expected: passlib_base64(hash)? })
}

/// Parses `$1$salt$rounds$hex` of Dovecot. The salt is the bytes of its text.
fn dovecot_pbkdf2(text: &str) -> ParseResult {
    let ["", "1", salt, rounds, hash] = text.split('$').collect::<Vec<_>>()[..] else {
        return Err("it is a malformed PBKDF2 hash of Dovecot".to_owned());
    };
    let function = HashFunction::Pbkdf2 { digest: DigestKind::Sha1, rounds: pbkdf2_rounds(rounds)? };
    Ok(ParsedHash { format: "Dovecot PBKDF2", function, salt: salt.as_bytes().to_vec(), expected: hex(hash)? })
}

/// Parses the base64 of the number of rounds (4 bytes, big endian), the salt (64 bytes) and the hash (256 bytes).
fn directory_server_389(text: &str) -> ParseResult {
    const SALT_BYTES: usize = 64;
    let bytes = base64(text)?;
    let parts = bytes.split_first_chunk::<4>().and_then(|(rounds, rest)| {
        let (salt, hash) = rest.split_at_checked(SALT_BYTES)?;
        Some((rounds, salt, hash.get(..OUTPUT_BYTES_MAX)?))
    });
    let (rounds, salt, hash) = parts.ok_or("it is a malformed hash of 389 Directory Server")?;
    let rounds = pbkdf2_rounds(&u32::from_be_bytes(*rounds).to_string())?;
    let function = HashFunction::Pbkdf2 { digest: DigestKind::Sha256, rounds };
    Ok(ParsedHash { format: "389 Directory Server", function, salt: salt.to_vec(), expected: hash.to_vec() })
}
