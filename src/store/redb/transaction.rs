//! One durable write transaction.

use redb::{Database, WriteTransaction};

use crate::store::error::StoreError;

/// Runs `work` in a transaction and commits it. The commit is durable when this returns `Ok`; if `work` returns an error, the transaction
/// is rolled back.
pub(in crate::store) fn transact<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(redb::Durability::Immediate)?;
    // Commits are two-phase, and reopening after a crash need not scan the file.
    txn.set_quick_repair(true);
    let done = work(&txn)?;
    txn.commit()?;
    Ok(done)
}
