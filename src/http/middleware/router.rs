//! The router: from the path and method of a request to its operation.
//!
//! Guarantees: a path is matched byte for byte as it was sent, and an operation answers for its own method alone. A path without
//! parameters is found by one hash lookup: poem's router boxes a future and records the pattern twice, which is a twentieth of the work
//! of such a request, and poem-openapi's own service would add a second router.

use std::{collections::HashMap, future::ready};

use futures_util::future::BoxFuture;
use poem::{
    Endpoint, Request, Response, Route,
    endpoint::{BoxEndpoint, DynEndpoint},
    error::MethodNotAllowedError,
    http::Method,
};
use poem_openapi::OpenApi;

/// The path prefix of all operations of the API.
pub const BASE_PATH: &str = "/api/v1";

/// All operations and pages, by path.
pub struct Router {
    /// Operations whose path has no parameter.
    fixed: HashMap<String, ByMethod>,
    others: Route,
}

impl Router {
    /// Routes the operations of `api` below `base`, and `pages`.
    pub fn new(base: &str, api: impl OpenApi, pages: Route) -> Self {
        let mut operations = HashMap::new();
        api.add_routes(&mut operations);
        let (mut fixed, mut others) = (HashMap::new(), pages);
        for (path, methods) in operations {
            let (has_parameter, path) = (path.contains([':', '*']), format!("{base}{path}"));
            if has_parameter {
                others = others.at(path, ByMethod(methods));
            } else {
                fixed.insert(path, ByMethod(methods));
            }
        }
        Self { fixed, others }
    }

    /// Calls the operation for the path and method of `request`.
    pub fn call(&self, request: Request) -> BoxFuture<'_, poem::Result<Response>> {
        match self.fixed.get(request.uri().path()) {
            Some(operations) => operations.answer(request),
            None => Box::pin(self.others.call(request)),
        }
    }
}

/// The operations of one path.
struct ByMethod(HashMap<Method, BoxEndpoint<'static>>);

impl ByMethod {
    fn answer(&self, request: Request) -> BoxFuture<'_, poem::Result<Response>> {
        match self.0.get(request.method()) {
            Some(operation) => DynEndpoint::call(&**operation, request),
            None => Box::pin(ready(Err(MethodNotAllowedError.into()))),
        }
    }
}

impl Endpoint for ByMethod {
    type Output = Response;

    // This is no `async fn`, because its future would hold the request twice.
    fn call(&self, request: Request) -> impl Future<Output = poem::Result<Response>> + Send {
        self.answer(request)
    }
}
