//! Pagination: the requested page of a list, and links to the other pages.
//!
//! Guarantees: every list of the API is paged in the same way. Links are paths, so that they are valid behind any proxy.

use poem_openapi::{
    ApiResponse, Object,
    registry::MetaSchema,
    types::{ParseFromJSON, ToJSON, Type},
};

use serde::Serialize;

use crate::http::middleware::{
    extract::{Parameter, RequestFields},
    json::Json,
};

const PER_PAGE: [u32; 5] = [5, 10, 25, 50, 100];
const PER_PAGE_DEFAULT: u32 = 10;

/// `?page=`
pub struct PageParam;

impl Parameter for PageParam {
    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(f64::from(u32::MAX)),
            default: Some(1.into()),
            ..MetaSchema::new("integer")
        }
    }
}

/// `?per_page=`
pub struct PerPageParam;

impl Parameter for PerPageParam {
    fn schema() -> MetaSchema {
        MetaSchema {
            enum_items: PER_PAGE.map(Into::into).into(),
            default: Some(PER_PAGE_DEFAULT.into()),
            ..MetaSchema::new("integer")
        }
    }
}

/// The requested page and its length.
pub struct Paging {
    /// The number of the page, from 1.
    pub page: u32,
    /// The maximum number of items of a page.
    pub per_page: u32,
}

impl Paging {
    /// Parses `page` and `per_page`. Errors are recorded in `fields`, which the caller must finish.
    pub fn of(fields: &mut RequestFields) -> Self {
        let page = fields.optional("page", 1, |text| {
            text.parse().ok().filter(|page| *page >= 1).ok_or("must be a whole number from 1")
        });
        let per_page = fields.optional("per_page", PER_PAGE_DEFAULT, |text| {
            text.parse().ok().filter(|n| PER_PAGE.contains(n)).ok_or("must be one of 5, 10, 25, 50, 100")
        });
        Self { page: page.unwrap_or(1), per_page: per_page.unwrap_or(PER_PAGE_DEFAULT) }
    }

    /// Returns the number of items before the page.
    pub fn skip(&self) -> u64 {
        u64::from(self.page - 1) * u64::from(self.per_page)
    }

    /// Returns the links to pages of `path`. `query` is the encoded rest of the query, which each link keeps.
    fn links(&self, path: &str, query: &str, pages: u64) -> Links {
        let and = if query.is_empty() { "" } else { "&" };
        let to = |page: u64| format!("{path}?page={page}&per_page={}{and}{query}", self.per_page);
        let (page, last) = (u64::from(self.page), pages.max(1));
        Links {
            this: to(page),
            first: to(1),
            prev: (page > 1).then(|| to((page - 1).min(last))),
            next: (page < pages).then(|| to(page + 1)),
            last: to(last),
        }
    }
}

/// A page of a list, in order of creation.
#[derive(Object, Serialize)]
pub struct PageOf<T: Type + ToJSON + ParseFromJSON + Serialize> {
    links: Links,
    has_prev: bool,
    has_next: bool,
    page: u32,
    total_pages: u64,
    items_per_page: u32,
    total_items: u64,
    items: Vec<T>,
}

/// The answer of a list.
#[derive(ApiResponse)]
pub enum ListResponse<T: Type + ToJSON + ParseFromJSON + Serialize> {
    /// A page of the list.
    #[oai(status = 200)]
    Ok(
        Json<PageOf<T>>,
        /// The `links` of the body (RFC 8288).
        #[oai(header = "Link")]
        String,
        /// How many items there are in all.
        #[oai(header = "Total-Count")]
        String,
    ),
}

impl<T: Type + ToJSON + ParseFromJSON + Serialize> ListResponse<T> {
    /// Builds the response of a page with `items`, of `total` items in all pages. `path` and `query` are those of the list, `query` encoded
    /// and without the parameters of paging.
    pub fn new(items: Vec<T>, total: u64, paging: &Paging, path: &str, query: &str) -> Self {
        let total_pages = total.div_ceil(u64::from(paging.per_page));
        let links = paging.links(path, query, total_pages);
        let header = links.header();
        let body = PageOf {
            has_prev: links.prev.is_some(),
            has_next: links.next.is_some(),
            links,
            page: paging.page,
            total_pages,
            items_per_page: paging.per_page,
            total_items: total,
            items,
        };
        Self::Ok(Json(body), header, total.to_string())
    }
}

/// Where the pages are, as paths.
#[derive(Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
struct Links {
    #[oai(rename = "self")]
    #[serde(rename = "self")]
    this: String,
    first: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    last: String,
}

impl Links {
    /// Returns the links as the value of a `Link` header (RFC 8288).
    fn header(&self) -> String {
        link_header([
            ("self", Some(&self.this)),
            ("first", Some(&self.first)),
            ("prev", self.prev.as_ref()),
            ("next", self.next.as_ref()),
            ("last", Some(&self.last)),
        ])
    }
}

/// Returns the value of a `Link` header (RFC 8288) with the relations that have a target.
pub fn link_header(relations: [(&str, Option<&String>); 5]) -> String {
    let present = relations.iter().filter_map(|(rel, to)| Some(format!("<{}>; rel=\"{rel}\"", (*to)?)));
    present.collect::<Vec<_>>().join(", ")
}
