//! Copies the database as of one snapshot while others write.
//!
//! Guarantees: the copy is made from a read transaction, table by table, never from the bytes of the live file. Writers do not wait for
//! it. The table that identifies the file is copied last, so that an incomplete copy is refused when it is opened.

use std::{fs::File, ops::Bound};

use redb::{
    Database, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, backends::FileBackend,
};

use crate::store::{
    error::StoreError,
    progress::Progress,
    redb::{schema, tables},
};

/// The number of rows per commit of the copy, which bounds redb's memory for it.
const ROWS_PER_COMMIT: u64 = 10_000;
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Copies all tables of `from` into the empty `into`, which is synced when this returns.
pub(in crate::store) fn copy(from: &ReadTransaction, into: File, progress: Progress<'_>) -> Result<(), StoreError> {
    let (tables, rows) = count(from)?;
    let database = schema::builder(CACHE_BYTES).create_with_backend(FileBackend::new(into)?)?;
    let mut copy = Copy { from, to: &database, tables: 0, done: 0, rows, progress };
    copy.table(tables::USERS)?;
    copy.table(tables::USERS_BY_EMAIL)?;
    copy.table(tables::MAILBOX_DUPLICATES)?;
    copy.table(tables::USERS_BY_FLAGS)?;
    copy.table(tables::USER_COUNTS)?;
    copy.table(tables::BLACKLIST)?;
    copy.table(tables::KNOWN_DEVICES)?;
    copy.table(tables::KNOWN_DEVICES_BY_TIME)?;
    copy.table(tables::WIDGETS)?;
    copy.table(tables::WIDGETS_BY_SEQUENCE)?;
    copy.table(tables::WIDGET_COUNTS)?;
    copy.table(tables::SIGNING_KEYS)?;
    copy.table(tables::SERVICES)?;
    copy.table(tables::REVOCATIONS)?;
    copy.table(tables::REVOCATIONS_BY_EXPIRY)?;
    copy.table(tables::META)?;
    let all = copy.tables == tables;
    database.close()?;
    // A table that is missing in the list above must be noticed now, not when the copy is needed.
    if all { Ok(()) } else { Err(StoreError::Refused("the database has a table that is not copied".to_owned())) }
}

/// Counts all tables and rows, including tables that this program does not know.
pub(in crate::store) fn count(txn: &ReadTransaction) -> Result<(usize, u64), StoreError> {
    let (mut tables, mut rows) = (0, 0);
    for table in txn.list_tables()? {
        tables += 1;
        rows += txn.open_untyped_table(table)?.len()?;
    }
    Ok((tables, rows))
}

struct Copy<'a> {
    from: &'a ReadTransaction,
    to: &'a Database,
    tables: usize,
    done: u64,
    rows: u64,
    progress: Progress<'a>,
}

impl Copy<'_> {
    fn table<K: Key + 'static, V: redb::Value + 'static>(
        &mut self,
        definition: TableDefinition<K, V>,
    ) -> Result<(), StoreError> {
        self.tables += 1;
        let source = self.from.open_table(definition)?;
        let mut rows = source.iter()?;
        loop {
            let txn = self.to.begin_write()?;
            let mut copied = 0;
            {
                let mut target = txn.open_table(definition)?;
                let mut end = target.upper_bound_mut(Bound::<K::SelfType<'_>>::Unbounded)?;
                while copied < ROWS_PER_COMMIT
                    && let Some(row) = rows.next().transpose()?
                {
                    end.insert_before(row.0.value(), row.1.value())?;
                    copied += 1;
                }
                end.close()?;
            }
            txn.commit()?;
            self.done += copied;
            (self.progress)(self.done, self.rows);
            if copied < ROWS_PER_COMMIT {
                return Ok(());
            }
        }
    }
}
