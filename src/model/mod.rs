//! Plain data types, parsed once.
//!
//! Guarantees: a value of one of these types is valid, because it comes from its parser or, through a constructor that says so in its
//! name, from the store. Deliberately absent: the formats in JSON, which are in `http`, and on disk, which are in `store`.

mod blacklisted_token;
mod deadline;
mod email;
mod ids;
mod known_device;
mod revocation;
mod service;
mod signing_key;
mod user;
mod widget;

pub use blacklisted_token::BlacklistedToken;
pub use deadline::{Deadline, DeadlineError};
pub use email::{Email, EmailError};
pub use ids::{PublicId, ServiceId, TokenId};
pub use known_device::KnownDevice;
pub use revocation::UserRevocation;
pub use service::{ReplacedSecret, SecretHash, SecretRotation, Service, ServiceChange, ServiceName, ServiceNameError};
pub use signing_key::{KeyState, SigningAlgorithm, StoredKey};
pub use user::{PasswordHash, User, UserChange, UserFilter};
pub use widget::{InfoUrl, InfoUrlError, Widget, WidgetName, WidgetNameError};
