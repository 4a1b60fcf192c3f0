//! One signing key: made, read from PEM, signing, verifying, and its public part as a JWK (RFC 7517).
//!
//! Guarantees: a signature has one form. A signature of ECDSA with the greater of the two values of `s`, which anyone can compute from the
//! other, is refused, and so is one of another length (RFC 7518 §3.4: 64 bytes).

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    error::Unspecified,
    hmac,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    KeyAlgorithm, OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, RSAKeyParameters, RSAKeyType, ThumbprintHash,
};
use rustls_pki_types::{
    PrivateKeyDer,
    pem::{self, PemObject as _},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::claims::{Claims, NewToken};
use crate::{
    model::{SigningAlgorithm, TokenId},
    random,
};

/// The order of the curve P-256 (SEC 2 §2.4.2), big endian.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// Half of [`P256_ORDER`], rounded down: the greatest `s` of a signature that is taken.
const P256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d,
    0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// The longest signature: of an RSA key of 4,096 bits, in bytes.
pub(super) const SIGNATURE_BYTES_MAX: usize = 512;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text has no private key.
    #[error("it holds no private key in PEM form")]
    NotPem,
    /// The key is encrypted.
    #[error("the key is encrypted; decrypt it first (openssl pkey -in FILE -out PLAIN)")]
    Encrypted,
    /// There is only a public key.
    #[error("it holds a public key alone; a private key is needed to sign")]
    PublicOnly,
    /// It is none of the supported kinds.
    #[error("the key is neither EC of the curve P-256, nor Ed25519, nor RSA of 2048 to 4096 bits, or it is damaged")]
    Unsupported,
}

/// A key that signs and verifies.
pub struct Key {
    /// The id of the key: its JWK thumbprint (RFC 7638), but for HS256, where it reveals nothing about the secret.
    pub kid: String,
    pair: KeyPair,
    /// The key of the MAC in token ids.
    token_ids: Box<hmac::Key>,
}

/// A public key that verifies signatures.
pub struct PublicKey {
    parsed: ParsedPublicKey,
    /// Whether of the two signatures that ECDSA verifies only the one with the lesser `s` is taken.
    requires_lower_s: bool,
}

impl PublicKey {
    /// Reads a public key: an uncompressed point (SEC 1 §2.3.3), 32 bytes of Ed25519 (RFC 8032 §5.1.5), or an RSA key as DER. Returns `None` if it
    /// is none, or for HS256, which has no public key.
    #[must_use]
    pub fn new(algorithm: SigningAlgorithm, bytes: &[u8]) -> Option<Self> {
        let (parsed, requires_lower_s) = match algorithm {
            SigningAlgorithm::Es256 => (ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes), true),
            SigningAlgorithm::EdDsa => (ParsedPublicKey::new(&ED25519, bytes), false),
            SigningAlgorithm::Rs256 => (ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes), false),
            SigningAlgorithm::Hs256 => return None,
        };
        Some(Self { parsed: parsed.ok()?, requires_lower_s })
    }

    /// Whether `signature`, as the bytes of JWS, is one of `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let is_form = !self.requires_lower_s || signature.get(32..).is_some_and(|s| s <= P256_HALF_ORDER.as_slice());
        is_form && self.parsed.verify_sig(message, signature).is_ok()
    }
}

enum KeyPair {
    Es256(EcdsaKeyPair, PublicKey),
    EdDsa(Ed25519KeyPair, PublicKey),
    Rs256(RsaKeyPair, PublicKey),
    Hs256(Box<hmac::Key>),
}

impl Key {
    /// Makes a key, and returns it with its private part. An RSA key takes a tenth of a second.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    #[must_use]
    pub fn generate(algorithm: SigningAlgorithm) -> (Self, Zeroizing<Vec<u8>>) {
        let made = match algorithm {
            SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .and_then(|pair| pair.to_pkcs8v1())
                .map(|der| der.as_ref().to_vec()),
            SigningAlgorithm::EdDsa => {
                Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1()).map(|der| der.as_ref().to_vec())
            }
            SigningAlgorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).and_then(|pair| pkcs8(&pair)),
            SigningAlgorithm::Hs256 => Ok(random::bytes::<32>().to_vec()),
        };
        let private = Zeroizing::new(made.expect("BUG: the operating system has no random number generator"));
        (Self::read(algorithm, &private).expect("BUG: a key that was just made can be read"), private)
    }

    /// Reads a key from its private part: PKCS #8, or the secret of HS256. Returns `None` if it is none.
    #[must_use]
    pub fn read(algorithm: SigningAlgorithm, private: &[u8]) -> Option<Self> {
        let pair = match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, private).ok()?;
                let public = PublicKey::new(algorithm, pair.public_key().as_ref())?;
                KeyPair::Es256(pair, public)
            }
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(private).ok()?;
                let public = PublicKey::new(algorithm, pair.public_key().as_ref())?;
                KeyPair::EdDsa(pair, public)
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(private).or_else(|_| RsaKeyPair::from_der(private)).ok()?;
                let public = PublicKey::new(algorithm, pair.public_key().as_ref())?;
                KeyPair::Rs256(pair, public)
            }
            SigningAlgorithm::Hs256 => KeyPair::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, private))),
        };
        let mut key = Self { kid: String::new(), pair, token_ids: token_id_key(private) };
        key.kid = match key.jwk_without_id() {
            Some(jwk) => jwk.thumbprint(ThumbprintHash::SHA256).expect("BUG: these kinds of keys have a thumbprint"),
            None => id_of_secret(private, None),
        };
        Some(key)
    }

    /// Returns the key of HS256 that is `secret` itself, in this data generation.
    #[must_use]
    pub fn of_secret(secret: &[u8], generation: Option<u64>) -> Self {
        let pair = KeyPair::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Self { kid: id_of_secret(secret, generation), pair, token_ids: token_id_key(secret) }
    }

    /// Reads a private key from PEM: PKCS #8, SEC 1 or PKCS #1. Returns its private part too.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn from_pem(pem: &[u8]) -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        let has = |label: &str| pem.windows(label.len()).any(|text| text == label.as_bytes());
        if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let private = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(private) => private,
            Err(pem::Error::NoItemsFound) if has("PUBLIC KEY-----") => return Err(KeyError::PublicOnly),
            Err(_) => return Err(KeyError::NotPem),
        };
        let private = Zeroizing::new(private.secret_der().to_vec());
        let asymmetric = [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256];
        let key = asymmetric.into_iter().find_map(|algorithm| Self::read(algorithm, &private));
        let key = key.filter(|key| key.signature_bytes() <= SIGNATURE_BYTES_MAX).ok_or(KeyError::Unsupported)?;
        Ok((key, private))
    }

    /// Returns the key under another id, which the key ring has it under.
    pub(in crate::auth) fn with_id(self, kid: &str) -> Self {
        Self { kid: kid.to_owned(), ..self }
    }

    /// Returns how the key signs.
    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        match self.pair {
            KeyPair::Es256(..) => SigningAlgorithm::Es256,
            KeyPair::EdDsa(..) => SigningAlgorithm::EdDsa,
            KeyPair::Rs256(..) => SigningAlgorithm::Rs256,
            KeyPair::Hs256(_) => SigningAlgorithm::Hs256,
        }
    }

    fn signature_bytes(&self) -> usize {
        match &self.pair {
            KeyPair::Es256(..) | KeyPair::EdDsa(..) => 64,
            KeyPair::Rs256(pair, _) => pair.public_modulus_len(),
            KeyPair::Hs256(_) => 32,
        }
    }

    /// Returns the signature of `message` as the bytes of JWS (RFC 7518 §3, RFC 8037 §3.1).
    ///
    /// # Panics
    /// If there is no memory.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = random::system();
        match &self.pair {
            KeyPair::Es256(pair, _) => {
                let signature = pair.sign(&random, message).expect("BUG: ECDSA signs any message");
                with_lower_s(signature.as_ref())
            }
            KeyPair::EdDsa(pair, _) => pair.sign(message).as_ref().to_vec(),
            KeyPair::Rs256(pair, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.expect("BUG: RSA of this size signs any message");
                signature
            }
            KeyPair::Hs256(key) => hmac::sign(key, message).as_ref().to_vec(),
        }
    }

    /// Whether `signature` is the one of `message` by this key. For HS256 it is compared in constant time.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.pair {
            KeyPair::Es256(_, public) | KeyPair::EdDsa(_, public) | KeyPair::Rs256(_, public) => {
                public.verifies(message, signature)
            }
            KeyPair::Hs256(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }

    /// Returns an id for a token: eight bytes of `random`, and eight of a MAC over them and the claims.
    ///
    /// Whoever has not the private part cannot make such an id, so that a forged token is refused before its signature is verified, which
    /// takes twenty times as long.
    pub(super) fn token_id(&self, token: &NewToken, random: [u8; 8]) -> TokenId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random);
        id = TokenId::from_random(id).to_bytes();
        let mut mac = hmac::Context::with_key(&self.token_ids);
        mac.update(&id[..8]);
        mac.update(&token.issued_at_s.to_be_bytes());
        mac.update(&token.expires_at_s.to_be_bytes());
        mac.update(&token.subject.to_bytes());
        mac.update(&[u8::from(token.admin)]);
        mac.update(&token.epoch.to_be_bytes());
        id[8..].copy_from_slice(&mac.sign().as_ref()[..8]);
        TokenId::from_random(id)
    }

    /// Whether [`Key::token_id`] made the id of a token with these claims.
    pub(super) fn has_valid_token_id(&self, claims: &Claims) -> bool {
        let id = claims.token_id.to_bytes();
        let (random, _) = id.split_first_chunk().expect("BUG: an id has 16 bytes");
        self.token_id(&claims.to_new_token(), *random).to_bytes().ct_eq(&id).into()
    }

    /// Whether a check of a signature takes so long that its outcome is worth keeping: microseconds, and not nanoseconds.
    pub(super) fn is_slow_to_verify(&self) -> bool {
        !matches!(self.pair, KeyPair::Hs256(_))
    }

    /// Returns the public key as a JWK (RFC 7517 §4) with `kid`, `use` and `alg`, or `None` for HS256, which has none.
    #[must_use]
    pub fn jwk(&self) -> Option<Jwk> {
        let mut jwk = self.jwk_without_id()?;
        jwk.common.key_id = Some(self.kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_algorithm = Some(match self.algorithm() {
            SigningAlgorithm::Es256 => KeyAlgorithm::ES256,
            SigningAlgorithm::EdDsa => KeyAlgorithm::EdDSA,
            SigningAlgorithm::Rs256 => KeyAlgorithm::RS256,
            SigningAlgorithm::Hs256 => return None,
        });
        Some(jwk)
    }

    fn jwk_without_id(&self) -> Option<Jwk> {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let algorithm = match &self.pair {
            KeyPair::Es256(pair, _) => {
                let point = pair.public_key().as_ref(); // 4, x and y (SEC 1 §2.3.3)
                AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                    key_type: EllipticCurveKeyType::EC,
                    curve: EllipticCurve::P256,
                    x: encode(&point[1..33]),
                    y: encode(&point[33..]),
                })
            }
            KeyPair::EdDsa(pair, _) => AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: encode(pair.public_key().as_ref()),
            }),
            KeyPair::Rs256(pair, _) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                AlgorithmParameters::RSA(RSAKeyParameters {
                    key_type: RSAKeyType::RSA,
                    n: encode(&public.n),
                    e: encode(&public.e),
                })
            }
            KeyPair::Hs256(_) => return None,
        };
        Some(Jwk { common: CommonParameters::default(), algorithm })
    }
}

/// Returns the form of a signature of ECDSA that has the lesser of the two values of `s`.
fn with_lower_s(signature: &[u8]) -> Vec<u8> {
    let mut signature = signature.to_vec();
    let s = &mut signature[32..];
    if *s > P256_HALF_ORDER[..] {
        let mut borrow = 0;
        for (digit, order) in s.iter_mut().zip(P256_ORDER).rev() {
            let difference = i16::from(order) - i16::from(*digit) - borrow;
            borrow = i16::from(difference < 0);
            *digit = u8::try_from(difference.rem_euclid(256)).expect("BUG: it is less than 256");
        }
    }
    signature
}

fn pkcs8(pair: &RsaKeyPair) -> Result<Vec<u8>, Unspecified> {
    Ok(AsDer::<Pkcs8V1Der<'_>>::as_der(pair)?.as_ref().to_vec())
}

/// Derives the key of the MAC in token ids from the private part of a key.
fn token_id_key(private: &[u8]) -> Box<hmac::Key> {
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, private), b"latchkey token ids\0");
    Box::new(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
}

/// Returns the `kid` of HS256: the first 9 bytes of a SHA-256 over a fixed prefix, the generation and the secret. It reveals nothing about
/// the secret.
fn id_of_secret(secret: &[u8], generation: Option<u64>) -> String {
    let mut hash = Sha256::new().chain_update(b"latchkey key id\0");
    if let Some(generation) = generation {
        hash.update(generation.to_be_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(&hash.chain_update(secret).finalize()[..9])
}
