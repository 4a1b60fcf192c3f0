//! JSON bodies (RFC 8259), serialized directly: poem-openapi's own payload builds a tree of values for each response.

use std::{future::Future, io, marker::PhantomData};

use futures_util::{FutureExt as _, stream};
use poem::{
    Body, IntoResponse, Response,
    http::{HeaderValue, header},
};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

/// `application/json`, which has no charset (RFC 8259 §11).
const APPLICATION_JSON: &str = "application/json";

/// The initial capacity of a body in bytes. Most bodies fit, so that writing them does not reallocate.
const BODY_BYTES: usize = 512;

/// A JSON body whose schema in the OpenAPI document is that of `T`.
pub struct Json<T>(pub T);

impl<T: Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = APPLICATION_JSON;

    fn check_content_type(content_type: &str) -> bool {
        content_type == APPLICATION_JSON
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        response(to_bytes(&self.0))
    }
}

fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BODY_BYTES);
    serde_json::to_writer(&mut bytes, value).expect("BUG: strings and numbers serialize");
    bytes
}

fn response(body: impl Into<Body>) -> Response {
    let mut response = Response::from(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(APPLICATION_JSON));
    response
}

/// Like [`Json`], but the value may come later. The head of the response is sent at once, so that the request, with all that surrounds its
/// handling, takes no memory while it waits.
pub struct JsonLater<T>(Response, PhantomData<fn() -> T>);

impl<T: Serialize + Send> JsonLater<T> {
    /// Returns a body that is there.
    pub fn ready(value: &T) -> Self {
        Self(response(to_bytes(value)), PhantomData)
    }

    /// Returns a body that is there when `value` resolves.
    pub fn deferred(value: impl Future<Output = T> + Send + 'static) -> Self {
        let bytes = value.map(|value| Ok::<_, io::Error>(to_bytes(&value)));
        Self(response(Body::from_bytes_stream(stream::once(bytes))), PhantomData)
    }
}

impl<T: Send> IntoResponse for JsonLater<T> {
    fn into_response(self) -> Response {
        self.0
    }
}

impl<T: Type + Serialize> ApiResponse for JsonLater<T> {
    fn meta() -> MetaResponses {
        Json::<T>::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + Serialize> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType { content_type: APPLICATION_JSON, schema: T::schema_ref() }];
        let response =
            MetaResponse { description: "", status: Some(200), status_range: None, content, headers: vec![] };
        MetaResponses { responses: vec![response] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}
