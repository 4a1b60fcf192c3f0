//! Pages of a list: which one is asked for, and where the others are.
//!
//! Guarantees: every list of the API is paged alike; links are paths, so that they hold behind any proxy.

use poem_openapi::{Object, registry::MetaSchema};

use super::fields::{Fields, Parameter};

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

/// Which page, and how long a page is.
pub struct Paging {
    /// From 1.
    pub page: u32,
    /// How many items a page has.
    pub per_page: u32,
}

impl Paging {
    /// Reads `page` and `per_page`. What is wrong with them is in `fields`; the caller has to finish those.
    pub fn of(fields: &mut Fields) -> Self {
        let page = fields.optional("page", 1, |text| {
            text.parse().ok().filter(|page| *page >= 1).ok_or("must be a whole number from 1")
        });
        let per_page = fields.optional("per_page", PER_PAGE_DEFAULT, |text| {
            text.parse().ok().filter(|n| PER_PAGE.contains(n)).ok_or("must be one of 5, 10, 25, 50, 100")
        });
        Self { page: page.unwrap_or(1), per_page: per_page.unwrap_or(PER_PAGE_DEFAULT) }
    }

    /// How many items come before the page.
    pub fn skip(&self) -> u64 {
        u64::from(self.page - 1) * u64::from(self.per_page)
    }

    /// How many pages `total` items fill.
    pub fn pages(&self, total: u64) -> u64 {
        total.div_ceil(u64::from(self.per_page))
    }

    /// Where the pages of `path` are; `query` is what they keep of the query, encoded.
    pub fn links(&self, path: &str, query: &str, total: u64) -> Links {
        let and = if query.is_empty() { "" } else { "&" };
        let to = |page: u64| format!("{path}?page={page}&per_page={}{and}{query}", self.per_page);
        let (page, pages) = (u64::from(self.page), self.pages(total));
        let last = pages.max(1);
        Links {
            this: to(page),
            first: to(1),
            prev: (page > 1).then(|| to((page - 1).min(last))),
            next: (page < pages).then(|| to(page + 1)),
            last: to(last),
        }
    }
}

/// Where the pages are, as paths.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Links {
    #[oai(rename = "self")]
    this: String,
    first: String,
    prev: Option<String>,
    next: Option<String>,
    last: String,
}

impl Links {
    /// Whether there is a page before this one.
    pub fn has_prev(&self) -> bool {
        self.prev.is_some()
    }

    /// Whether there is a page behind this one.
    pub fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// The same as a `Link` header (RFC 8288).
    pub fn header(&self) -> String {
        let relations = [
            ("self", Some(&self.this)),
            ("first", Some(&self.first)),
            ("prev", self.prev.as_ref()),
            ("next", self.next.as_ref()),
            ("last", Some(&self.last)),
        ];
        let present = relations.iter().filter_map(|(rel, to)| Some(format!("<{}>; rel=\"{rel}\"", (*to)?)));
        present.collect::<Vec<_>>().join(", ")
    }
}
