//! How an error of redb becomes a [`StoreError`].

use std::sync::Arc;

use crate::store::error::StoreError;

/// redb has one error type for each kind of call; all of them mean the same here.
macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Arc::new(redb::Error::from(error)))
            }
        })*
    };
}
from_redb!(CursorError, DatabaseError, TransactionError, TableError, StorageError, CommitError, SetDurabilityError);
