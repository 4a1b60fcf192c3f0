//! Extractors: the fields of a request body, a query or a path as text, and the errors of invalid fields.
//!
//! Guarantees: form and JSON bodies give the same fields. A field that was sent twice, has broken percent-encoding or is not UTF-8 is an
//! error. [`RequestFields`] reports every field that failed, not only the first. The text of a field is wiped from memory after use,
//! because one of them is a password.

use std::{fmt::Display, marker::PhantomData};

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaParamIn, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::http::middleware::error::{ApiError, FieldErrors};

/// The largest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

enum FieldValue {
    Text(Zeroizing<String>),
    Flag(bool),
    NotText,
    Null,
}

/// The fields of a request, and the errors found in them so far.
pub struct RequestFields {
    /// In a list, because few fields are sent and each is looked for once.
    sent: Vec<(String, FieldValue)>,
    errors: FieldErrors,
}

impl RequestFields {
    /// Reads the fields of the query string of `request`.
    ///
    /// # Errors
    /// 400 if its percent-encoding is malformed.
    pub fn of_query(request: &Request) -> Result<Self, ApiError> {
        Self::from_form(request.uri().query().unwrap_or_default().as_bytes(), "query string")
    }

    /// Parses the field `name`. Returns `None` if it is missing or invalid, and records the error for [`RequestFields::failed`].
    pub fn required<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(Zeroizing<String>) -> Result<T, E>,
    ) -> Option<T> {
        let read = match self.take(name) {
            Ok(Some(text)) => parse(text).map_err(|error| error.to_string()),
            Ok(None) => Err("Missing required parameter in the post body".to_owned()),
            Err(why) => Err(why.to_owned()),
        };
        read.map_err(|why| self.reject(name, why)).ok()
    }

    /// Like [`RequestFields::required`], but returns `default` if the field is missing.
    pub fn optional<T, E: Display>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(Zeroizing<String>) -> Result<T, E>,
    ) -> Option<T> {
        let read = match self.take(name) {
            Ok(Some(text)) => parse(text).map_err(|error| error.to_string()),
            Ok(None) => Ok(default),
            Err(why) => Err(why.to_owned()),
        };
        read.map_err(|why| self.reject(name, why)).ok()
    }

    /// Parses a flag: `true` or `false`, in JSON also as a Boolean. Returns `None` if it is missing or invalid.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        let mut sent = self.sent.iter().filter(|(sent, _)| sent == name);
        if let (Some((_, FieldValue::Flag(flag))), None) = (sent.next(), sent.next()) {
            return Some(*flag);
        }
        let parse = |text: Zeroizing<String>| match text.as_str() {
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err("must be true or false"),
        };
        self.optional(name, None, parse).flatten()
    }

    /// Records the error of a value from elsewhere, such as the path, so that it is reported together with the fields.
    pub fn check<T>(&mut self, name: &'static str, parsed: Result<T, impl Display>) -> Option<T> {
        parsed.map_err(|error| self.reject(name, error)).ok()
    }

    /// Whether a field of this name was sent.
    pub fn has(&self, name: &str) -> bool {
        self.sent.iter().any(|(sent, _)| sent == name)
    }

    /// Succeeds if no field is invalid.
    ///
    /// # Errors
    /// 400, which names every invalid field.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.failed()) }
    }

    /// Returns the 400 that names every invalid field.
    pub fn failed(self) -> ApiError {
        ApiError::Validation(self.errors)
    }

    fn reject(&mut self, name: &'static str, why: impl Display) {
        self.errors.insert(name, why.to_string());
    }

    fn take(&mut self, name: &str) -> Result<Option<Zeroizing<String>>, &'static str> {
        let mut sent = self.sent.extract_if(.., |(sent, _)| sent == name).map(|(_, value)| value);
        match (sent.next(), sent.next()) {
            (None | Some(FieldValue::Null), None) => Ok(None),
            (Some(FieldValue::Text(text)), None) => Ok(Some(text)),
            (Some(FieldValue::Flag(_) | FieldValue::NotText), None) => Err("must be text"),
            (_, Some(_)) => Err("was sent more than once"),
        }
    }

    fn new(sent: Vec<(String, FieldValue)>) -> Self {
        Self { sent, errors: FieldErrors::new() }
    }

    fn from_form(bytes: &[u8], what: &str) -> Result<Self, ApiError> {
        let pairs = bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let mut name = form_decode(halves.next().unwrap_or_default())?;
            let value = form_decode(halves.next().unwrap_or_default())?;
            Some((std::mem::take(&mut *name), FieldValue::Text(value)))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        Ok(Self::new(
            pairs.ok_or_else(|| ApiError::bad_request(format!("The {what} is not valid UTF-8 form encoding")))?,
        ))
    }

    fn from_json(bytes: &[u8]) -> Result<Self, ApiError> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let read = json.deserialize_map(Members).and_then(|pairs| json.end().map(|()| pairs));
        // The message has the place of the error but no part of the body, which may contain a password.
        let pairs = read.map_err(|error| {
            let (line, column) = (error.line(), error.column());
            ApiError::bad_request(format!("The body is not a JSON object (line {line}, column {column})"))
        })?;
        Ok(Self::new(pairs))
    }
}

/// Deserializes the members of a JSON object in their order, including repeated names, which a map would drop.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, FieldValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            let value = match value {
                Value::Bool(flag) => FieldValue::Flag(flag),
                Value::String(text) => FieldValue::Text(Zeroizing::new(text)),
                Value::Null => FieldValue::Null,
                _ => FieldValue::NotText,
            };
            pairs.push((name, value));
        }
        Ok(pairs)
    }
}

/// Decodes `application/x-www-form-urlencoded` strictly and returns `None` if it is malformed. Libraries repair malformed input, and two
/// servers that repair it differently see two different passwords.
pub(super) fn form_decode(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let text = |decoded: &[u8]| Some(Zeroizing::new(std::str::from_utf8(decoded).ok()?.to_owned()));
    if !bytes.iter().any(|byte| b"+%".contains(byte)) {
        return text(bytes);
    }
    let mut decoded = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => decoded.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                decoded.push(digit(digits[0])? * 16 + digit(digits[1])?);
                rest = after;
            }
            other => decoded.push(*other),
        }
    }
    text(&decoded)
}

/// A form or JSON body. The OpenAPI document describes its fields by `S`.
pub struct Body<S> {
    /// The fields that were sent.
    pub fields: RequestFields,
    shape: PhantomData<fn() -> S>,
}

impl<'a, S: Type> ApiExtractor<'a> for Body<S> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        S::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = ["application/json", "application/x-www-form-urlencoded"];
        let content = content.map(|content_type| MetaMediaType { content_type, schema: S::schema_ref() }).into();
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        // Why not `mime`, which `headers` reads this field with too: it rejects the blank of `application/json ;charset=utf-8`, which RFC
        // 9110 §5.6.6 allows, and a parameter without a value.
        let content_type =
            text(header::CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        let json = content_type.eq_ignore_ascii_case("application/json");
        let form = content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        let encoded = request.headers().contains_key(header::CONTENT_ENCODING)
            && !text(header::CONTENT_ENCODING).is_some_and(|coding| coding.eq_ignore_ascii_case("identity"));
        let bytes = body.take()?.into_bytes().await.map_err(|_| ApiError::bad_request("The body cannot be read"))?;
        let nothing = bytes.is_empty() && content_type.is_empty(); // the error that names each missing field is more helpful than a 415
        if encoded || !(json || form || nothing) {
            return Err(ApiError::UnsupportedMediaType.into());
        }
        if bytes.len() > BODY_BYTES_MAX {
            return Err(ApiError::BodyTooLarge(BODY_BYTES_MAX).into());
        }
        let fields = if json { RequestFields::from_json(&bytes) } else { RequestFields::from_form(&bytes, "body") };
        Ok(Self { fields: fields?, shape: PhantomData })
    }
}

/// The description of a parameter in the OpenAPI document.
pub trait Parameter {
    /// Returns its JSON schema.
    fn schema() -> MetaSchema;
}

/// A parameter as percent-decoded text, which the handler parses.
pub struct Param<P, const IN_PATH: bool> {
    /// The text of a path parameter. Query parameters are read with [`RequestFields::of_query`] instead, so that one response names all
    /// invalid ones.
    pub text: Option<String>,
    shape: PhantomData<fn() -> P>,
}

/// A path parameter. poem-openapi recognises path parameters by this very name.
pub type Path<P> = Param<P, true>;
/// A query parameter, for the OpenAPI document only.
pub type Query<P> = Param<P, false>;

impl<'a, P: Parameter, const IN_PATH: bool> ApiExtractor<'a> for Param<P, IN_PATH> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = IN_PATH;
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(if IN_PATH { MetaParamIn::Path } else { MetaParamIn::Query })
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(P::schema())))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self { text: request.raw_path_param(options.name).map(str::to_owned), shape: PhantomData })
    }
}
