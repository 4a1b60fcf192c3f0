//! `GET /users`: the parameters of a page of users, and its response.
//!
//! Guarantees: `links.next` of each page leads to the next one at the same cost, however many users there are. Pages also have numbers, so
//! that a client can go to any page. Deliberately absent: which users a page has (`store::redb::user_list`).

use std::fmt::Write as _;

use poem_openapi::{ApiResponse, Object, registry::MetaSchema};
use serde::Serialize;
use url::form_urlencoded::Serializer;

use super::wire::UserJson;
use crate::{
    http::middleware::{
        error::ApiError,
        extract::{Parameter, RequestFields},
        json::Json,
        paging::{Paging, link_header},
        router::BASE_PATH,
    },
    model::{PublicId, UserFilter},
    store::{UserCursor, UserPage, UserTotal, UsersFrom},
};

/// `?search=`
pub(super) struct SearchParam;

impl Parameter for SearchParam {
    fn schema() -> MetaSchema {
        MetaSchema::new("string")
    }
}

/// `?admin=`, `?disabled=`
pub(super) struct FlagParam;

impl Parameter for FlagParam {
    fn schema() -> MetaSchema {
        MetaSchema::new("boolean")
    }
}

/// `?after=`
pub(super) struct CursorParam;

impl Parameter for CursorParam {
    fn schema() -> MetaSchema {
        MetaSchema { pattern: Some("^([0-9a-f]{2}){16,270}$".to_owned()), ..MetaSchema::new("string") }
    }
}

/// The maximum length of the text of a cursor: hexadecimal digits of a public id (16 bytes) and an email (254 bytes).
const CURSOR_DIGITS_MAX: usize = 2 * (16 + 254);

/// Returns the text of a cursor: the hexadecimal digits of the public id and of the email.
fn cursor_text(cursor: &UserCursor) -> String {
    let mut text = String::new();
    for byte in cursor.id.to_bytes().iter().chain(cursor.email_key.as_bytes()) {
        write!(text, "{byte:02x}").expect("BUG: writing to memory does not fail");
    }
    text
}

/// Parses the text of a cursor. Every text of the documented pattern is a place in the list.
fn parse_cursor(text: &str) -> Option<UserCursor> {
    let digit = |digit| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) || digits.len() > CURSOR_DIGITS_MAX {
        return None;
    }
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let (id, email) = bytes.split_first_chunk()?;
    Some(UserCursor { id: PublicId::from_bytes(*id), email_key: String::from_utf8_lossy(email).into_owned() })
}

/// Reads the parameters that select users. Errors are recorded in `fields`, which the caller must finish.
pub(in crate::http) fn read_filter(fields: &mut RequestFields) -> UserFilter {
    UserFilter {
        email_prefix: fields.optional("search", None, |text| Ok::<_, String>(Some(text.to_string()))).flatten(),
        admin: fields.flag("admin"),
        disabled: fields.flag("disabled"),
    }
}

/// Writes them, as [`read_filter`] reads them.
pub(in crate::http) fn write_filter(filter: &UserFilter, query: &mut Serializer<'_, String>) {
    if let Some(prefix) = &filter.email_prefix {
        query.append_pair("search", prefix);
    }
    for (name, flag) in [("disabled", filter.disabled), ("admin", filter.admin)] {
        if let Some(flag) = flag {
            query.append_pair(name, &flag.to_string());
        }
    }
}

/// A request for a page of users.
pub(super) struct UserListRequest {
    pub(super) filter: UserFilter,
    pub(super) paging: Paging,
    /// Whether the request has the number of its page. A page after a cursor need not have one.
    is_numbered: bool,
    after: Option<UserCursor>,
}

impl UserListRequest {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 400, which names every invalid one.
    pub(super) fn read(mut fields: RequestFields) -> Result<Self, ApiError> {
        let has_page = fields.has("page");
        let paging = Paging::of(&mut fields);
        let filter = read_filter(&mut fields);
        let parse = |text: &str| parse_cursor(text).map(Some).ok_or("must be from the links of another page");
        let after = fields.optional("after", None, |text| parse(&text)).flatten();
        fields.finish()?;
        Ok(Self { filter, is_numbered: has_page || after.is_none(), paging, after })
    }

    /// Returns where the page starts.
    pub(super) fn from(&self) -> UsersFrom {
        self.after.clone().map_or(UsersFrom::Skip(self.paging.skip()), UsersFrom::After)
    }

    /// Returns the path of a page of the same list.
    fn link(&self, page: Option<u64>, after: Option<&UserCursor>) -> String {
        let mut query = Serializer::new(String::new());
        if let Some(page) = page {
            query.append_pair("page", &page.to_string());
        }
        query.append_pair("per_page", &self.paging.per_page.to_string());
        if let Some(after) = after {
            query.append_pair("after", &cursor_text(after));
        }
        write_filter(&self.filter, &mut query);
        format!("{BASE_PATH}/users?{}", query.finish())
    }

    /// Builds the response with the page and the total that the store has returned.
    pub(super) fn respond(&self, found: &UserPage, total: UserTotal) -> UserListResponse {
        let page = self.is_numbered.then_some(u64::from(self.paging.page));
        let total_pages = total.users.div_ceil(u64::from(self.paging.per_page));
        let last = total_pages.max(1);
        let prev =
            page.filter(|page| *page > 1).map(|page| if total.is_exact { (page - 1).min(last) } else { page - 1 });
        let links = UserListLinks {
            this: self.link(page, self.after.as_ref()),
            first: self.link(Some(1), None),
            prev: prev.map(|page| self.link(Some(page), None)),
            next: found.next.as_ref().map(|next| self.link(page.map(|page| page + 1), Some(next))),
            last: total.is_exact.then(|| self.link(Some(last), None)),
        };
        let header = link_header([
            ("self", Some(&links.this)),
            ("first", Some(&links.first)),
            ("prev", links.prev.as_ref()),
            ("next", links.next.as_ref()),
            ("last", links.last.as_ref()),
        ]);
        let body = UserListBody {
            has_prev: links.prev.is_some() || self.after.is_some(),
            has_next: links.next.is_some(),
            links,
            page,
            total_pages,
            items_per_page: self.paging.per_page,
            total_items: total.users,
            total_is_exact: total.is_exact,
            items: found.items.iter().map(UserJson::new).collect(),
        };
        UserListResponse::Ok(Json(body), header, total.is_exact.then(|| total.users.to_string()))
    }
}

/// The answer of the list of users.
#[derive(ApiResponse)]
pub(super) enum UserListResponse {
    /// A page of the list.
    #[oai(status = 200)]
    Ok(
        Json<UserListBody>,
        /// The `links` of the body (RFC 8288).
        #[oai(header = "Link")]
        String,
        /// How many users there are in all; absent where that is not known exactly.
        #[oai(header = "Total-Count")]
        Option<String>,
    ),
}

/// A page of users, in order of registration; with `search`, in order of emails.
#[derive(Object, Serialize)]
#[oai(rename = "PageOf_User", skip_serializing_if_is_none)]
pub(super) struct UserListBody {
    links: UserListLinks,
    has_prev: bool,
    has_next: bool,
    /// The number of the page; absent where the request has `after` and no `page`.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<u64>,
    /// How many pages there are, or at least are.
    total_pages: u64,
    items_per_page: u32,
    /// How many users there are in all, or at least are: a search counts up to 10000.
    total_items: u64,
    /// Whether `total_items` and `total_pages` are exact.
    total_is_exact: bool,
    items: Vec<UserJson>,
}

/// Where the pages are, as paths.
#[derive(Object, Serialize)]
#[oai(rename = "LinksOfUsers", skip_serializing_if_is_none)]
struct UserListLinks {
    #[oai(rename = "self")]
    #[serde(rename = "self")]
    this: String,
    first: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
    /// The next page. Where `search` and a flag are combined it may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Absent where the number of pages is not known exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
}
