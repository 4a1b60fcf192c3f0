//! Verifies access tokens of latchkey without a call for each token, and knows which of them were logged out.
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp, jwk::JwkSet};
use serde_json::Value;
use std::{collections::HashMap, env::var, sync::LazyLock, sync::RwLock, time::Instant};

type Failure = Box<dyn std::error::Error>;
const ALGORITHMS: [Algorithm; 3] = [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256]; // no HS256: its key is secret
static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

#[derive(Default)]
struct Known {
    keys: Option<(JwkSet, Instant)>, // with the time they were read
    is_complete: bool,               // whether everything that is dead has been read
    entries: HashMap<String, Value>, // of the feed: dead tokens by jti, changed users by sub
    cursor: Option<String>,
}

/// Returns the claims of a valid token. Answer 503 to errors that say so, and 401 to all others.
pub fn verify(token: &str) -> Result<Value, Failure> {
    let (header, known) = (decode_header(token)?, KNOWN.read()?);
    let keys = known.keys.as_ref().filter(|(_, read_at)| known.is_complete && read_at.elapsed().as_secs() < 300);
    let key =
        keys.ok_or("503: latchkey cannot be reached")?.0.find(&header.kid.ok_or("no kid")?).ok_or("no such key")?;
    let mut checks = Validation::new(*ALGORITHMS.iter().find(|allowed| **allowed == header.alg).ok_or("wrong alg")?);
    (checks.leeway, checks.required_spec_claims) = (0, ["exp", "iss", "aud"].map(String::from).into());
    checks.set_issuer(&[var("ISSUER")?]);
    checks.set_audience(&[var("AUDIENCE")?]);
    let mut claims: Value = decode(token, &DecodingKey::from_jwk(key)?, &checks)?.claims;
    let user = known.entries.get(claims["sub"].as_str().ok_or("no sub")?);
    let is_old = user.is_some_and(|user| claims["epoch"].as_u64() < user["min_epoch"].as_u64());
    if is_old || known.entries.contains_key(claims["jti"].as_str().ok_or("no jti")?) {
        return Err("the token is dead".into());
    }
    claims["admin"] = (claims["admin"] == true && user.is_none_or(|user| user["admin"] == true)).into(); // or demoted
    Ok(claims)
}

/// Reads the public keys, and waits for what has died since the last call. Call it again and again, after an error too: a list that
/// grows old is not noticed. What is known stays known after an error, until the keys are five minutes old.
pub fn follow(http: &ureq::Agent) -> Result<(), Failure> {
    let (issuer, cursor) = (var("ISSUER")?, KNOWN.read()?.cursor.clone());
    let keys = http.get(format!("{issuer}/.well-known/jwks.json")).call()?.body_mut().read_json()?;
    KNOWN.write()?.keys = Some((keys, Instant::now()));
    let query = cursor.map(|cursor| format!("?after={cursor}&wait=20")).unwrap_or_default();
    let feed = http.get(format!("{issuer}/api/v1/token/revocations{query}"));
    let answer = feed.header("Authorization", format!("Bearer {}", var("SECRET")?)).call();
    if let Err(ureq::Error::StatusCode(410)) = answer {
        *KNOWN.write()? = Known::default(); // the server has other data: a backup was restored
    }
    let page: Value = answer?.body_mut().read_json()?;
    let mut known = KNOWN.write()?; // not before the line above, which waits
    for entry in [&page["tokens"], &page["users"]].into_iter().filter_map(Value::as_array).flatten() {
        let id = entry["jti"].as_str().or(entry["sub"].as_str()).ok_or("no id")?;
        known.entries.insert(id.to_owned(), entry.clone());
    }
    known.entries.retain(|_, entry| entry["exp"].as_u64() >= Some(get_current_timestamp())); // expired: refused anyway
    known.cursor = Some(page["cursor"].as_str().ok_or("no cursor")?.to_owned());
    known.is_complete |= page["more"] == false;
    Ok(())
}
