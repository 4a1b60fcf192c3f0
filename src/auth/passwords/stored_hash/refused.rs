//! Formats that are known and not verified, with the reason and what to do instead.

use super::ldap;

/// Says what to do instead.
const NEW_PASSWORD: &str = "add the user with `latchkey user add` and a new password";

/// Explains why `text` cannot be used as a stored hash, and what to do instead.
pub(super) fn explain(text: &str) -> String {
    let is_hex = |length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let weak = |name: &str| format!("it is {name}, which is too weak to keep; {NEW_PASSWORD}");
    if is_hex(32) {
        return weak("an MD5 or NT hash without a salt");
    } else if is_hex(40) {
        return weak("a SHA-1 hash without a salt");
    } else if is_hex(64) || is_hex(128) {
        return weak("a SHA-2 hash without a salt");
    }
    if let Some((scheme, rest)) = ldap::split_scheme(text) {
        return match scheme.split('.').next().unwrap_or_default() {
            "SHA" | "SHA1" | "SHA256" | "SHA512" => weak("a digest without a salt"),
            "MD5" | "PLAIN-MD5" | "LDAP-MD5" | "SMD5" | "MD5-CRYPT" | "DIGEST-MD5" | "CRAM-MD5" | "HMAC-MD5" => {
                weak(&format!("a hash of MD5 ({{{scheme}}})"))
            }
            "LANMAN" | "NTLM" | "NT" | "DES-CRYPT" => weak(&format!("a {{{scheme}}} hash")),
            "PLAIN" | "CLEAR" | "CLEARTEXT" => plain(),
            "CRYPT" if rest.len() == 13 => weak("DES crypt"),
            "CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" | "BLF-CRYPT" if !rest.starts_with('{') => explain(rest),
            _ => format!("its scheme {{{scheme}}} is not verified; {NEW_PASSWORD}"),
        };
    }
    let method = text.strip_prefix('$').unwrap_or(text).split('$').next().unwrap_or_default();
    match (text.starts_with('$'), method) {
        (true, "1") => weak("md5-crypt ($1$)"),
        (true, "apr1") => weak("Apache's MD5 ($apr1$)"),
        (true, "NT" | "3") => weak("an NT hash"),
        (true, "sha1" | "md5") => weak(&format!("{method}-crypt")),
        (true, "y" | "gy" | "7") => format!(
            "it is yescrypt or its relative (${method}$), which is not verified; set a new password, or let the users of \
             the old system log in there once with another setting, such as SHA512-crypt, first"
        ),
        (true, "2" | "2x") => {
            format!("it is bcrypt of a version with a known error (${method}$); set a new password")
        }
        (false, "md5" | "unsalted_md5" | "unsalted_sha1" | "crypt" | "hex_md5") if text.contains('$') => {
            weak(&format!("a hash of Django's {method}"))
        }
        (false, "sha1") if text.contains('$') => weak("a salted SHA-1 hash (sha1$)"),
        (true, _) if text.len() > 1 => format!("it is of a kind that is not known; {NEW_PASSWORD}"),
        _ if text.starts_with('*') && text.len() == 41 => weak("MySQL's SHA-1 (*)"),
        _ if text.starts_with('!') || text == "*" => "it marks an account without a password".to_owned(),
        _ if text.is_empty() => "it is empty".to_owned(),
        _ => plain(),
    }
}

fn plain() -> String {
    "it is not a hash of a known kind; a plain password cannot be imported; add the user with `latchkey user add`"
        .to_owned()
}
