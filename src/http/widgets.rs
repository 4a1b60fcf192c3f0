//! `/widgets`: the protected sample resource. Reading needs a token, writing an administrator's.
//!
//! Guarantees: what is stored was checked, on adding and on editing alike; a page and its totals are of one moment.

use std::sync::Arc;

use poem::Request;
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json, registry::MetaSchema};
use time::OffsetDateTime;

use super::{
    Tag,
    auth::Success,
    error::{ApiError, Fails},
    fields::{Body, Fields, Parameter, Path, Query},
    guard::{AdminAuth, BearerAuth},
    moment,
};
use crate::{
    clock::Clock,
    model::{Deadline, InfoUrl, User, Widget, WidgetName, WidgetNameError},
    store::{OwnedWidget, Store},
};

const PATH: &str = "/api/v1/widgets";
const PER_PAGE: [u32; 5] = [5, 10, 25, 50, 100];
const PER_PAGE_DEFAULT: u32 = 10;

/// The operations under `/widgets`.
pub struct WidgetsApi {
    /// Keeps the widgets.
    pub store: Arc<Store>,
    /// Decides whether a deadline has passed.
    pub clock: Arc<dyn Clock>,
}

/// The `{name}` in the path.
struct NameParam;

impl Parameter for NameParam {
    fn schema() -> MetaSchema {
        MetaSchema {
            min_length: Some(1),
            max_length: Some(100),
            pattern: Some("^[a-z0-9_-]+$".to_owned()),
            ..MetaSchema::new("string")
        }
    }
}

/// `?page=`
struct PageParam;

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
struct PerPageParam;

impl Parameter for PerPageParam {
    fn schema() -> MetaSchema {
        MetaSchema {
            enum_items: PER_PAGE.map(Into::into).into(),
            default: Some(PER_PAGE_DEFAULT.into()),
            ..MetaSchema::new("integer")
        }
    }
}

/// A widget to add.
#[derive(Object)]
struct NewWidget {
    /// Lowercase letters, digits, `-` and `_`; unique.
    #[oai(validator(min_length = 1, max_length = 100, pattern = "^[a-z0-9_-]+$"))]
    name: String,
    /// An absolute http or https URL.
    #[oai(validator(max_length = 2048))]
    info_url: String,
    /// Today or later, such as `2027-05-13`, `2027-05-13T18:30:00Z`, `05/13/2027`, `May 13 2027`.
    deadline: String,
}

/// What can be changed of a widget.
#[derive(Object)]
struct WidgetChange {
    /// An absolute http or https URL.
    #[oai(validator(max_length = 2048))]
    info_url: String,
    /// Today or later, such as `2027-05-13`, `2027-05-13T18:30:00Z`, `05/13/2027`, `May 13 2027`.
    deadline: String,
}

/// The user who added a widget.
#[derive(Object)]
struct Owner {
    /// As spelled at registration.
    email: String,
    /// Names the user.
    public_id: String,
}

/// A widget.
#[derive(Object)]
#[oai(rename = "Widget")]
struct WidgetJson {
    name: String,
    info_url: String,
    /// Such as `02/28/20 11:38:53 PM UTC`.
    created_at: String,
    created_at_iso8601: String,
    created_at_rfc822: String,
    /// Such as `02/28/20 11:38:53 PM UTC`.
    deadline: String,
    deadline_iso8601: String,
    deadline_passed: bool,
    /// Such as `2 days 3 hours 4 minutes 5 seconds`, or `No time remaining`.
    time_remaining: String,
    /// `null` where the user is gone.
    owner: Option<Owner>,
    /// The path of this widget.
    link: String,
}

impl WidgetJson {
    fn new(OwnedWidget { widget, owner }: OwnedWidget, now: OffsetDateTime) -> Self {
        let deadline = widget.deadline.moment();
        let remaining_s = u64::try_from(deadline.unix_timestamp() - now.unix_timestamp()).unwrap_or(0);
        Self {
            link: link(&widget.name),
            name: widget.name.to_string(),
            info_url: widget.info_url.as_str().to_owned(),
            created_at: moment::us(widget.created_at),
            created_at_iso8601: moment::iso8601(widget.created_at),
            created_at_rfc822: moment::rfc822(widget.created_at),
            deadline: moment::us(deadline),
            deadline_iso8601: moment::iso8601(deadline),
            deadline_passed: remaining_s == 0,
            time_remaining: moment::word_span(remaining_s).unwrap_or_else(|| "No time remaining".to_owned()),
            owner: owner.map(|User { email, public_id, .. }| Owner {
                email: email.to_string(),
                public_id: public_id.to_string(),
            }),
        }
    }
}

/// Where the pages are, as paths.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Links {
    #[oai(rename = "self")]
    this: String,
    first: String,
    prev: Option<String>,
    next: Option<String>,
    last: String,
}

/// A page of widgets in order of creation.
#[derive(Object)]
struct WidgetPage {
    links: Links,
    has_prev: bool,
    has_next: bool,
    page: u32,
    total_pages: u64,
    items_per_page: u32,
    total_items: u64,
    items: Vec<WidgetJson>,
}

#[derive(ApiResponse)]
enum Listed {
    /// A page of widgets.
    #[oai(status = 200)]
    Ok(
        Json<WidgetPage>,
        /// The `links` of the body (RFC 8288).
        #[oai(header = "Link")]
        String,
        /// How many widgets there are in all.
        #[oai(header = "Total-Count")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Added {
    /// The widget was added.
    #[oai(status = 201)]
    Created(
        Json<Success>,
        /// The path of the new widget.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Put {
    /// The widget was changed.
    #[oai(status = 200)]
    Updated(Json<Success>),
    /// There was no such widget; it was added.
    #[oai(status = 201)]
    Created(
        Json<Success>,
        /// The path of the new widget.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum Deleted {
    /// The widget is gone.
    #[oai(status = 204)]
    NoContent,
}

#[OpenApi(prefix_path = "/widgets", tag = "Tag::Widgets")]
impl WidgetsApi {
    /// List widgets
    ///
    /// In pages, in order of creation.
    #[oai(path = "/", method = "get", operation_id = "list_widgets")]
    async fn list_widgets(
        &self,
        _caller: BearerAuth,
        request: &Request,
        /// Which page, from 1.
        #[oai(name = "page")]
        _page: Query<PageParam>,
        /// How many widgets a page has.
        #[oai(name = "per_page")]
        _per_page: Query<PerPageParam>,
    ) -> Result<Listed, ApiError> {
        let mut fields = Fields::of_query(request)?;
        let page = fields.optional("page", 1, |text| {
            text.parse().ok().filter(|page| *page >= 1).ok_or("must be a whole number from 1")
        });
        let per_page = fields.optional("per_page", PER_PAGE_DEFAULT, |text| {
            text.parse().ok().filter(|n| PER_PAGE.contains(n)).ok_or("must be one of 5, 10, 25, 50, 100")
        });
        let (Some(page), Some(per_page)) = (page, per_page) else { return Err(fields.failed()) };
        let skip = u64::from(page - 1) * u64::from(per_page);
        let found = self.store.widget_page(skip, per_page as usize)?;
        let now = self.clock.now();
        let total_pages = found.total.div_ceil(u64::from(per_page));
        let to = |page: u64| format!("{PATH}?page={page}&per_page={per_page}");
        let (page_n, last) = (u64::from(page), total_pages.max(1));
        let links = Links {
            this: to(page_n),
            first: to(1),
            prev: (page_n > 1).then(|| to((page_n - 1).min(last))),
            next: (page_n < total_pages).then(|| to(page_n + 1)),
            last: to(last),
        };
        let header = link_header(&links);
        let body = WidgetPage {
            has_prev: links.prev.is_some(),
            has_next: links.next.is_some(),
            links,
            page,
            total_pages,
            items_per_page: per_page,
            total_items: found.total,
            items: found.items.into_iter().map(|item| WidgetJson::new(item, now)).collect(),
        };
        Ok(Listed::Ok(Json(body), header, found.total.to_string()))
    }

    /// Add a widget
    #[oai(path = "/", method = "post", operation_id = "create_widget")]
    async fn create_widget(&self, AdminAuth(caller): AdminAuth, body: Body<NewWidget>) -> Result<Added, Fails<409>> {
        let mut fields = body.fields;
        let name = fields.required("name", |text| WidgetName::parse(&text));
        let widget = self.widget(fields, name, caller.user())?;
        let name = widget.name.clone();
        if self.store.insert_widget(widget).await.map_err(ApiError::from)? {
            return Ok(Added::Created(added(&name), link(&name)));
        }
        Err(ApiError::Conflict(format!("Widget name: {name} already exists, must be unique.")).into())
    }

    /// Get a widget
    #[oai(path = "/:name", method = "get", operation_id = "get_widget")]
    async fn get_widget(
        &self,
        _caller: BearerAuth,
        /// The name of the widget.
        name: Path<NameParam>,
    ) -> Result<Json<WidgetJson>, Fails<404>> {
        let name = name_in_path(&name)?;
        let found = self.store.find_widget(&name).map_err(ApiError::from)?;
        Ok(Json(WidgetJson::new(found.ok_or_else(|| not_found(&name))?, self.clock.now())))
    }

    /// Change a widget
    ///
    /// Adds it where there is none of this name.
    #[oai(path = "/:name", method = "put", operation_id = "put_widget")]
    async fn put_widget(
        &self,
        AdminAuth(caller): AdminAuth,
        /// The name of the widget.
        name: Path<NameParam>,
        body: Body<WidgetChange>,
    ) -> Result<Put, ApiError> {
        let mut fields = body.fields;
        let name = fields.check("name", parse_name(&name));
        let widget = self.widget(fields, name, caller.user())?;
        let name = widget.name.clone();
        if self.store.put_widget(widget).await? {
            return Ok(Put::Created(added(&name), link(&name)));
        }
        Ok(Put::Updated(Success::new(format!("'{name}' was successfully updated"))))
    }

    /// Delete a widget
    #[oai(path = "/:name", method = "delete", operation_id = "delete_widget")]
    async fn delete_widget(
        &self,
        _caller: AdminAuth,
        /// The name of the widget.
        name: Path<NameParam>,
    ) -> Result<Deleted, Fails<404>> {
        let name = name_in_path(&name)?;
        if self.store.remove_widget(name.clone()).await.map_err(ApiError::from)? {
            return Ok(Deleted::NoContent);
        }
        Err(not_found(&name).into())
    }
}

impl WidgetsApi {
    /// Reads what adding and editing have in common.
    fn widget(&self, mut fields: Fields, name: Option<WidgetName>, owner: &User) -> Result<Widget, ApiError> {
        let created_at = self.clock.now();
        let info_url = fields.required("info_url", |text| InfoUrl::parse(&text));
        let deadline = fields.required("deadline", |text| Deadline::parse(&text, created_at));
        match (name, info_url, deadline) {
            (Some(name), Some(info_url), Some(deadline)) => {
                Ok(Widget { name, info_url, created_at, deadline, owner: owner.public_id })
            }
            _ => Err(fields.failed()),
        }
    }
}

fn parse_name(name: &Path<NameParam>) -> Result<WidgetName, WidgetNameError> {
    WidgetName::parse(name.text.as_deref().unwrap_or_default())
}

fn name_in_path(name: &Path<NameParam>) -> Result<WidgetName, ApiError> {
    parse_name(name).map_err(|error| ApiError::Validation([("name", error.to_string())].into()))
}

fn not_found(name: &WidgetName) -> ApiError {
    ApiError::NotFound(format!("{name} not found in database."))
}

fn added(name: &WidgetName) -> Json<Success> {
    Success::new(format!("New widget added: {name}."))
}

fn link(name: &WidgetName) -> String {
    format!("{PATH}/{name}")
}

fn link_header(links: &Links) -> String {
    let relations = [
        ("self", Some(&links.this)),
        ("first", Some(&links.first)),
        ("prev", links.prev.as_ref()),
        ("next", links.next.as_ref()),
        ("last", Some(&links.last)),
    ];
    let present = relations.iter().filter_map(|(rel, to)| Some(format!("<{}>; rel=\"{rel}\"", (*to)?)));
    present.collect::<Vec<_>>().join(", ")
}
