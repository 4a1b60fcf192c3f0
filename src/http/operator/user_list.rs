//! All users that a filter selects, as lines of JSON: a stream of any length.
//!
//! Guarantees: memory does not grow with the number of users, and a slow client holds no snapshot, because each part of the stream is a
//! page that is read when the client has taken the one before. Users who are added or removed meanwhile may be in it or not.

use std::{io, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use poem::Request;
use url::form_urlencoded::Serializer;

use crate::{
    http::{
        api::users::{self, UserJson},
        middleware::{error::ApiError, extract::RequestFields},
    },
    model::UserFilter,
    store::{Store, StoreError, UsersFrom},
};

/// The number of users in one part of the stream.
const USERS_PER_PAGE: usize = 200;
/// The pause before a page is read again, if too many reads were queued.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Returns the query of a request for the users that `filter` selects.
#[must_use]
pub fn query(filter: &UserFilter) -> String {
    let mut query = Serializer::new(String::new());
    users::write_filter(filter, &mut query);
    query.finish()
}

/// Reads the filter from the query of a request.
///
/// # Errors
/// 400 if a parameter is invalid.
pub(super) fn read_filter(request: &Request) -> Result<UserFilter, ApiError> {
    let mut fields = RequestFields::of_query(request)?;
    let filter = users::read_filter(&mut fields);
    fields.finish()?;
    Ok(filter)
}

/// Returns the users that `filter` selects, in the order of [`Store::user_page`]. A part of the stream has whole lines.
pub fn lines(store: Arc<Store>, filter: UserFilter) -> impl Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
    stream::try_unfold(Some(UsersFrom::Skip(0)), move |mut from| {
        let (store, filter) = (Arc::clone(&store), filter.clone());
        async move {
            let mut text = Vec::new();
            // A page of a search may be empty although more follow. An empty part would end a chunked response.
            while text.is_empty()
                && let Some(start) = from.take()
            {
                let page = match store.user_page(filter.clone(), start.clone(), USERS_PER_PAGE).await {
                    // Others asked for more pages than can wait. The list is in no hurry, and must not end for that.
                    Err(StoreError::Overloaded) => {
                        tokio::time::sleep(RETRY_PAUSE).await;
                        from = Some(start);
                        continue;
                    }
                    page => page.map_err(io::Error::other)?,
                };
                for user in &page.items {
                    serde_json::to_writer(&mut text, &UserJson::new(user))?;
                    text.push(b'\n');
                }
                from = page.next.map(UsersFrom::After);
            }
            Ok((!text.is_empty()).then_some((text, from)))
        }
    })
}
