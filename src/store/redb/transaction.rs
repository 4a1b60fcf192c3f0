//! One durable write transaction.

use redb::{Database, WriteTransaction};

use crate::store::error::StoreError;

/// Runs `work` in a transaction and commits it. The commit is durable when this returns `Ok`; where `work` returns an error, nothing of
/// it is kept.
pub(in crate::store) fn transact<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(redb::Durability::Immediate)?;
    // Reopening after a crash need not scan the file, and every commit is in two phases.
    txn.set_quick_repair(true);
    let done = work(&txn)?;
    txn.commit()?;
    Ok(done)
}
