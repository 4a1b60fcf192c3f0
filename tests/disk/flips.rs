//! Flipped bits: a database or a copy with one flipped bit is refused, or the bit has no effect. No read returns wrong data.

use std::{
    fs::{self, File},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use latchkey::{
    model::PublicId,
    store::{self, Store, StoreError},
};

use super::{
    device::Disk,
    images::Dice,
    load::{self, CACHE_BYTES, Worker},
};

/// Returns everything that can be read from a store.
fn said(store: &Store, workers: &[Worker]) -> Result<Vec<String>, StoreError> {
    let mut said = vec![format!("{:?} {}", store.data_generation()?, store.purged_through_s())];
    store.for_each_user(|user, _| {
        said.push(format!("{} {} {}", user.public_id, user.email, load::describe(&user)));
        Ok::<_, StoreError>(())
    })?;
    for found in load::block_on(store.widget_page(0, 1000))?.items {
        said.push(format!("{:?}", found.widget));
    }
    for worker in workers {
        said.push(format!("{:?}", worker.look(store)?));
    }
    Ok(said)
}

struct Sound {
    bytes: Vec<u8>,
    said: Vec<String>,
    contents: String,
}

fn check(bytes: &[u8]) -> Result<String, StoreError> {
    let disk = Disk::with(bytes.to_vec());
    store::check_on(disk, Path::new("the file"), |_| Ok(()), &mut |_, _| ()).map(|contents| format!("{contents:?}"))
}

impl Sound {
    fn new(bytes: Vec<u8>, workers: &[Worker]) -> Self {
        let store = Store::open_on(Disk::with(bytes.clone()).place(), CACHE_BYTES).unwrap();
        Self { said: said(&store, workers).unwrap(), contents: check(&bytes).unwrap(), bytes }
    }

    /// Flips one bit and checks the result. Returns `true` if the bit has no effect, and `false` if the store refuses the file.
    fn flip(&self, byte: usize, bit: usize, workers: &[Worker]) -> bool {
        let mut bytes = self.bytes.clone();
        bytes[byte] ^= 1 << bit;
        let checked = check(&bytes);
        match &checked {
            Ok(contents) => assert_eq!(*contents, self.contents, "bit {bit} of byte {byte}"),
            Err(StoreError::Refused(_)) => {}
            Err(error) => panic!("bit {bit} of byte {byte}: {error}"),
        }
        let disk = Disk::with(bytes);
        let Ok(store) = Store::open_on(disk.place(), CACHE_BYTES) else { return false };
        assert_eq!(said(&store, workers).unwrap(), self.said, "bit {bit} of byte {byte}");
        // After more writes the database is sound, too.
        load::block_on(store.probe_write()).unwrap();
        load::block_on(store.remove_user(PublicId::from_bytes([0xff; 16]), 0)).unwrap();
        store.close().unwrap();
        assert_eq!(check(&disk.bytes()).unwrap(), self.contents, "bit {bit} of byte {byte}");
        true
    }
}

/// Returns a database in use, and a copy of it.
fn files(workers: &[Worker]) -> [Sound; 2] {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    load::block_on(load::first_admin(&store));
    load::block_on(load::work(workers, &store, &disk, false));
    let dir = tempfile::TempDir::new().unwrap();
    let copy = dir.path().join("copy.redb");
    let file = File::create_new(&copy).unwrap(); // it can be read, too
    store.backup(file, &mut |_, _| ()).unwrap();
    store.close().unwrap();
    [Sound::new(disk.bytes(), workers), Sound::new(fs::read(&copy).unwrap(), workers)]
}

fn flips(all: usize) {
    let workers = load::workers(2);
    let files = files(&workers);
    let (next, harmless) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= all {
                        return;
                    }
                    let mut dice = Dice::new(n as u64);
                    let file = &files[n % 2];
                    // One flip in eight is in the first 320 bytes, the header of the file.
                    let end = if dice.below(8) == 0 { 320 } else { file.bytes.len() };
                    let without_harm = file.flip(dice.below(end), dice.below(8), &workers);
                    harmless.fetch_add(usize::from(without_harm), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{all} bits turned over: {} refused, the others without harm", all - harmless.into_inner());
}

#[test]
fn a_bit_that_turned_over_is_refused_or_harmless() {
    flips(4_000);
}
