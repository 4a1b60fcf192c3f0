//! The disk fails at every single operation. A writer gets an error, and readers are not affected. When the disk works again, the store
//! accepts writes again by itself and has all data that was acknowledged.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use latchkey::{
    model::{BlacklistedToken, TokenId},
    store::Store,
};
use redb::StorageBackend;

use super::{
    device::{Disk, Fault},
    images::{Dice, Platter},
    load::{self, CACHE_BYTES, Feed},
};

const FAULTS: [Fault; 4] = [Fault::Io, Fault::NoSpace, Fault::Short, Fault::Sync];
/// The number of stores that are tested concurrently. A store that cannot be opened again waits a second, so that many should wait
/// together.
const AT_ONCE: usize = 48;

/// A disk whose sync panics when the flag is set. For the store this is a defect in the database.
#[derive(Debug)]
struct Panicking(Disk, Arc<AtomicBool>);

impl StorageBackend for Panicking {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        assert!(!self.1.swap(false, Ordering::Relaxed), "as the test wants it");
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[test]
fn a_panic_in_the_database_ends_one_write_and_the_next_one_works() {
    let disk = Disk::with(created());
    let panics = Arc::new(AtomicBool::new(false));
    let (place, told) = (disk.clone(), Arc::clone(&panics));
    let store = Store::open_on(move |_| Ok(Panicking(place.clone(), Arc::clone(&told))), CACHE_BYTES).unwrap();
    let token = |n: u64| BlacklistedToken { expires_at_s: 4_000_000_000 + n, token_id: TokenId::new() };
    for n in 0..3 {
        store.check_readable().unwrap();
        let (lost, kept) = (token(n), token(n));
        panics.store(true, Ordering::Relaxed);
        assert!(load::block_on(store.blacklist(lost)).is_err());
        assert!(load::block_on(store.blacklist(kept)).unwrap(), "the store goes on");
        assert!(!load::block_on(store.blacklist(kept)).unwrap(), "and remembers");
    }
    store.close().unwrap();
}

/// Returns a database with an administrator.
fn created() -> Vec<u8> {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    load::block_on(load::first_admin(&store));
    store.close().unwrap();
    disk.bytes()
}

/// Runs a load on a disk where these operations fail. The disk is repaired after the first error. Returns the number of all operations.
fn run(created: &[u8], fault: Fault, operations: Range<u64>) -> u64 {
    let disk = Disk::with(created.to_vec());
    disk.fail(fault, operations);
    let store = Store::open_on(disk.place(), CACHE_BYTES).or_else(|_| {
        disk.mend();
        Store::open_on(disk.place(), CACHE_BYTES)
    });
    let store = store.unwrap();
    let workers = load::workers(1);
    load::block_on(load::work(&workers, &store, &disk, true));
    let closed = store.close();
    assert!(closed.is_ok() || disk.failed() > 0);
    let all = disk.operations();
    disk.mend();
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    let feed = Feed::read(&store).unwrap();
    for worker in &workers {
        worker.compare(&store, &feed).unwrap();
        let look = worker.look(&store).unwrap();
        assert!(load::is_one_of(&look, &worker.looks[worker.looks.len() - 1..]), "{look:#?}");
    }
    all
}

/// Makes each operation fail, only `once` or together with all later ones, and tests every `step`th case. Returns the number of cases.
fn sweep(once: bool, step: usize) -> usize {
    let created = created();
    // The number of operations without a failure, and some more, because a worker does more after an error.
    let all = run(&created, Fault::Io, 0..0) + 50;
    let plan: Vec<_> = (0..all).flat_map(|at| FAULTS.map(|fault| (fault, at))).step_by(step).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((fault, at)) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let end = if once { at + 1 } else { u64::MAX };
                    run(&created, *fault, *at..end);
                }
            });
        }
    });
    plan.len()
}

#[test]
fn a_disk_that_fails_once_at_any_operation() {
    sweep(true, 1);
}

#[test]
fn a_disk_that_fails_from_some_operation_on() {
    sweep(false, 5);
}

#[test]
#[ignore = "long: a minute"]
fn a_disk_that_fails_once_or_from_any_operation_on() {
    let (once, lasting) = (sweep(true, 1), sweep(false, 1));
    println!("{once} single and {lasting} lasting disk faults: nothing lost, open again within 5 s each");
}

#[test]
fn a_database_that_cannot_be_made_is_not_there() {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    for (at, fault) in (0..disk.operations()).flat_map(|at| FAULTS.map(|fault| (at, fault))) {
        let disk = Disk::default();
        disk.fail(fault, at..at + 1);
        let made = Store::create_on(disk.clone(), CACHE_BYTES);
        assert_eq!(made.is_err(), disk.failed() > 0, "{fault:?} at {at}");
        if made.is_ok() {
            let (mut platter, mut dice) = (Platter::new(Vec::new()), Dice::new(at));
            disk.take_trace().iter().for_each(|event| platter.go_on(event, &mut dice));
            assert!(platter.is_synced());
            Store::open_on(disk.place(), CACHE_BYTES).unwrap();
        }
    }
}
