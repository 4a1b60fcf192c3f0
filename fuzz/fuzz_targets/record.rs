//! Records: a row of users or widgets with any bytes is read or refused, and the check of the file says so in a sentence.
#![no_main]

use std::{
    io,
    path::Path,
    sync::{Arc, LazyLock, Mutex},
};

use latchkey::store::{self, Store, StoreError};
use libfuzzer_sys::fuzz_target;
use redb::{Database, StorageBackend, TableDefinition};

const USERS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("users_1");
const WIDGETS: TableDefinition<&str, &[u8]> = TableDefinition::new("widgets_1");
const CACHE_BYTES: usize = 1024 * 1024;

/// A database of ours, and its bytes. It stays open: closing takes longer than all the rest, and a file that was not closed is opened
/// all the same, as after a kill.
static DATABASE: LazyLock<(Memory, Database)> = LazyLock::new(|| {
    let memory = Memory::default();
    Store::create_on(memory.clone(), CACHE_BYTES).unwrap();
    let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(memory.clone()).unwrap();
    (memory, database)
});

/// Bytes that outlive the database over them.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    // The first byte says which table.
    let Some((table, row)) = input.split_first() else { return };
    let (memory, database) = &*DATABASE;
    let txn = database.begin_write().unwrap();
    {
        let (mut users, mut widgets) = (txn.open_table(USERS).unwrap(), txn.open_table(WIDGETS).unwrap());
        users.remove([1; 16]).unwrap();
        widgets.remove("a-widget").unwrap();
        if table % 2 == 0 {
            users.insert([1; 16], row).unwrap();
        } else {
            widgets.insert("a-widget", row).unwrap();
        }
    }
    txn.commit().unwrap();
    // It has no index beside it: whether it is read or not, the file is not sound.
    let copy = Memory(Arc::new(Mutex::new(memory.0.lock().unwrap().clone())));
    let checked = store::check_on(copy, Path::new("the file"), |_| Ok(()), &mut |_, _| ());
    assert!(matches!(checked, Err(StoreError::Refused(_))), "{checked:?}");
});
