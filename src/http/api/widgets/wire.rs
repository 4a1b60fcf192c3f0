//! The JSON of widgets: parameters, bodies and responses, as the OpenAPI document shows them.

use poem_openapi::{ApiResponse, Object, registry::MetaSchema, types::Example};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    http::{
        api::{auth::SuccessBody, timestamp},
        middleware::{extract::Parameter, json::Json, router::BASE_PATH},
    },
    model::{User, WidgetName},
    store::OwnedWidget,
};

/// The `{name}` in the path.
pub(super) struct NameParam;

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

/// A widget to add.
#[derive(Object)]
#[oai(example)]
pub(super) struct NewWidget {
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
#[oai(example)]
pub(super) struct WidgetChange {
    /// An absolute http or https URL.
    #[oai(validator(max_length = 2048))]
    info_url: String,
    /// Today or later, such as `2027-05-13`, `2027-05-13T18:30:00Z`, `05/13/2027`, `May 13 2027`.
    deadline: String,
}

impl Example for NewWidget {
    fn example() -> Self {
        let WidgetChange { info_url, deadline } = WidgetChange::example();
        Self { name: "first-widget".to_owned(), info_url, deadline }
    }
}

impl Example for WidgetChange {
    fn example() -> Self {
        Self { info_url: "https://example.com/widgets".to_owned(), deadline: "12/31/2099".to_owned() }
    }
}

/// The user who added a widget.
#[derive(Object, Serialize)]
pub(super) struct Owner {
    /// As spelled at registration.
    email: String,
    /// Names the user.
    public_id: String,
}

/// A widget.
#[derive(Object, Serialize)]
#[oai(rename = "Widget")]
pub(super) struct WidgetJson {
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
    pub(super) fn new(OwnedWidget { widget, owner }: OwnedWidget, now: OffsetDateTime) -> Self {
        let deadline = widget.deadline.moment();
        let remaining_s = u64::try_from(deadline.unix_timestamp() - now.unix_timestamp()).unwrap_or(0);
        Self {
            link: link(&widget.name),
            name: widget.name.to_string(),
            info_url: widget.info_url.as_str().to_owned(),
            created_at: timestamp::us(widget.created_at),
            created_at_iso8601: timestamp::iso8601(widget.created_at),
            created_at_rfc822: timestamp::rfc822(widget.created_at),
            deadline: timestamp::us(deadline),
            deadline_iso8601: timestamp::iso8601(deadline),
            deadline_passed: remaining_s == 0,
            time_remaining: timestamp::word_span(remaining_s).unwrap_or_else(|| "No time remaining".to_owned()),
            owner: owner.map(|User { email, public_id, .. }| Owner {
                email: email.to_string(),
                public_id: public_id.to_string(),
            }),
        }
    }
}

#[derive(ApiResponse)]
pub(super) enum Added {
    /// The widget was added.
    #[oai(status = 201)]
    Created(
        Json<SuccessBody>,
        /// The path of the new widget.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Put {
    /// The widget was changed.
    #[oai(status = 200)]
    Updated(Json<SuccessBody>),
    /// There was no such widget; it was added.
    #[oai(status = 201)]
    Created(
        Json<SuccessBody>,
        /// The path of the new widget.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Deleted {
    /// The widget is gone.
    #[oai(status = 204)]
    NoContent,
}

/// The path of a widget.
pub(super) fn link(name: &WidgetName) -> String {
    format!("{BASE_PATH}/widgets/{name}")
}
