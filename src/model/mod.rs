//! Plain data types, parsed once.
//!
//! Guarantees: a value of one of these types is valid, because its only constructor is its parser. Deliberately absent:
//! wire formats and row formats; how a noun looks in JSON is `http`'s business, how it looks on disk is `store`'s.

mod blacklisted_token;
mod deadline;
mod email;
mod ids;
mod user;
mod widget;

pub use blacklisted_token::BlacklistedToken;
pub use deadline::{Deadline, DeadlineError};
pub use email::{Email, EmailError};
pub use ids::{PublicId, TokenId};
pub use user::{PasswordHash, User, UserChange, UserFilter};
pub use widget::{InfoUrl, InfoUrlError, Widget, WidgetName, WidgetNameError};
