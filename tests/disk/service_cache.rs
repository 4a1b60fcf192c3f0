//! Requests of services read the services through a cache. No answer is older than a write that was acknowledged before the question, and
//! after a failed write the cache has what is on the disk.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use latchkey::{
    model::{SecretHash, SecretRotation, Service, ServiceChange, ServiceId, ServiceName},
    store::{InsertServiceOutcome, Store},
};
use time::OffsetDateTime;

use super::{
    device::{Disk, Fault},
    load::{self, CACHE_BYTES},
};

/// The number of further services.
const OTHERS: u64 = 200;
const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// The secret number `n`.
fn secret(n: u64) -> SecretHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&n.to_be_bytes());
    SecretHash(hash)
}

fn number(secret: SecretHash) -> u64 {
    u64::from_be_bytes(secret.0[..8].try_into().unwrap())
}

fn service(name: &str, secret: SecretHash) -> Service {
    Service {
        id: ServiceId::new(EPOCH),
        name: ServiceName::parse(name).unwrap(),
        secret,
        replaced_secret: None,
        disabled: false,
        created_at: EPOCH,
        rotated_at: EPOCH,
    }
}

/// Returns an empty database on a disk, and the id of its one service, whose secret has the number 0.
fn created() -> (Vec<u8>, ServiceId) {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    let service = service("billing", secret(0));
    let id = service.id;
    assert_eq!(load::block_on(store.insert_service(service)).unwrap(), InsertServiceOutcome::Done);
    store.close().unwrap();
    (disk.bytes(), id)
}

/// Returns the number of the secret that is valid now. Looks the service up by its id and by the secret.
fn valid(store: &Store, id: ServiceId) -> u64 {
    let services = store.services().unwrap();
    let service = services.find(id).unwrap();
    assert_eq!(services.find_by_secret(service.secret).unwrap().id, id);
    assert!(services.find_by_secret(secret(u64::MAX)).is_none());
    number(service.secret)
}

fn rotation(n: u64) -> ServiceChange {
    let rotation = SecretRotation { secret: secret(n), old_valid_until: None, rotated_at: EPOCH };
    ServiceChange { rotation: Some(rotation), ..ServiceChange::default() }
}

#[test]
fn no_answer_about_a_service_is_older_than_an_acknowledged_write() {
    let (bytes, id) = created();
    let store = Store::open_on(Disk::with(bytes).place(), CACHE_BYTES).unwrap();
    // So that reading them takes about as long as a commit, and one is often in the midst of the other.
    for n in 0..OTHERS {
        load::block_on(store.insert_service(service(&format!("other-{n}"), secret(u64::from(u32::MAX) + n)))).unwrap();
    }
    let acknowledged = AtomicU64::new(0);
    let read = || {
        let least = acknowledged.load(Ordering::SeqCst);
        assert!(valid(&store, id) >= least, "a secret that was replaced is valid");
    };
    thread::scope(|scope| {
        let (store, acknowledged, read) = (&store, &acknowledged, &read);
        let writing = Arc::new(()); // dropped when the writer has ended, also by a panic
        let written = Arc::downgrade(&writing);
        scope.spawn(move || {
            for n in 1..=400 {
                load::block_on(store.update_service(id, rotation(n))).unwrap().unwrap();
                acknowledged.store(n, Ordering::SeqCst);
                read();
            }
            drop(writing);
        });
        for _ in 0..2 {
            let written = written.clone();
            scope.spawn(move || {
                while written.strong_count() > 0 {
                    read();
                }
            });
        }
    });
    store.close().unwrap();
}

/// Replaces the secret while these operations fail. Returns whether the write was acknowledged, and the number of operations it took.
fn run((bytes, id): &(Vec<u8>, ServiceId), fault: Fault, operations: Range<u64>) -> (bool, u64) {
    let disk = Disk::with(bytes.clone());
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    assert_eq!(valid(&store, *id), 0);
    let before = disk.operations();
    disk.fail(fault, before + operations.start..before + operations.end);
    let done = load::block_on(store.update_service(*id, rotation(1))).is_ok();
    let took = disk.operations() - before;
    disk.mend();
    load::block_on(load::writable(&store));
    let in_memory = valid(&store, *id);
    assert!(in_memory == 1 || !done, "{fault:?} at {operations:?}: acknowledged and forgotten");
    store.close().unwrap();
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    assert_eq!(valid(&store, *id), in_memory, "{fault:?} at {operations:?}: memory and disk differ");
    store.close().unwrap();
    (done, took)
}

#[test]
fn after_a_failed_write_the_services_in_memory_are_those_on_the_disk() {
    let created = created();
    let (done, all) = run(&created, Fault::Io, 0..0);
    assert!(done && all > 2, "a write takes some operations: {all}");
    let plan: Vec<_> = (0..all)
        .flat_map(|at| [Fault::Io, Fault::NoSpace, Fault::Short, Fault::Sync].map(|fault| (fault, at)))
        .collect();
    let failed: usize = thread::scope(|scope| {
        let run = |(fault, at): &(Fault, u64)| {
            let (created, fault, at) = (&created, *fault, *at);
            scope.spawn(move || usize::from(!run(created, fault, at..at + 1).0))
        };
        let runs: Vec<_> = plan.iter().map(run).collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert!(failed > 0, "some of {} writes failed", plan.len());
}
