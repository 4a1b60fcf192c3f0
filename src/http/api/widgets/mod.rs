//! `/widgets`: the protected sample resource. Reading needs a token, writing needs an administrator's token.
//!
//! Guarantees: adding and editing validate the same way. A page and its totals come from one snapshot.

mod wire;

use std::sync::Arc;

use poem::Request;
use poem_openapi::OpenApi;

use crate::{
    clock::Clock,
    http::{
        api::{auth::SuccessBody, tag::Tag},
        middleware::{
            error::{ApiError, Documented},
            extract::{Body, Path, Query, RequestFields},
            guard::{AdminAuth, BearerAuth},
            json::Json,
            paging::{ListResponse, PageParam, Paging, PerPageParam},
            router::BASE_PATH,
        },
    },
    model::{Deadline, InfoUrl, User, Widget, WidgetName, WidgetNameError},
    store::Store,
};
use wire::{Added, Deleted, NameParam, NewWidget, Put, WidgetChange, WidgetJson, link};

/// The operations under `/widgets`.
pub struct WidgetsApi {
    /// The open database.
    pub store: Arc<Store>,
    /// The clock that deadlines are compared with.
    pub clock: Arc<dyn Clock>,
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
    ) -> Result<ListResponse<WidgetJson>, ApiError> {
        let mut fields = RequestFields::of_query(request)?;
        let paging = Paging::of(&mut fields);
        fields.finish()?;
        let found = self.store.widget_page(paging.skip(), paging.per_page as usize).await?;
        let now = self.clock.now();
        let items = found.items.into_iter().map(|item| WidgetJson::new(item, now)).collect();
        Ok(ListResponse::new(items, found.total, &paging, &format!("{BASE_PATH}/widgets"), ""))
    }

    /// Add a widget
    ///
    /// Its owner is who adds it.
    #[oai(path = "/", method = "post", operation_id = "create_widget")]
    async fn create_widget(
        &self,
        AdminAuth(caller): AdminAuth,
        body: Body<NewWidget>,
    ) -> Result<Added, Documented<409>> {
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
    ///
    /// By name.
    #[oai(path = "/:name", method = "get", operation_id = "get_widget")]
    async fn get_widget(
        &self,
        _caller: BearerAuth,
        /// The name of the widget.
        name: Path<NameParam>,
    ) -> Result<Json<WidgetJson>, Documented<404>> {
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
        Ok(Put::Updated(SuccessBody::new(format!("'{name}' was successfully updated"))))
    }

    /// Delete a widget
    ///
    /// For good.
    #[oai(path = "/:name", method = "delete", operation_id = "delete_widget")]
    async fn delete_widget(
        &self,
        _caller: AdminAuth,
        /// The name of the widget.
        name: Path<NameParam>,
    ) -> Result<Deleted, Documented<404>> {
        let name = name_in_path(&name)?;
        if self.store.remove_widget(name.clone()).await.map_err(ApiError::from)? {
            return Ok(Deleted::NoContent);
        }
        Err(not_found(&name).into())
    }
}

impl WidgetsApi {
    /// Parses the fields that adding and editing have in common.
    fn widget(&self, mut fields: RequestFields, name: Option<WidgetName>, owner: &User) -> Result<Widget, ApiError> {
        let created_at = self.clock.now().truncate_to_second(); // as it is stored
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

fn added(name: &WidgetName) -> Json<SuccessBody> {
    SuccessBody::new(format!("New widget added: {name}."))
}
