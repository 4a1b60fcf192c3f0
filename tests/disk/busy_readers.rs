//! Long reads while the disk does not answer: those that wait are bounded, and what does not fit is refused at once.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;
use latchkey::{
    model::UserFilter,
    store::{Store, StoreError, UsersFrom},
};
use redb::StorageBackend;

use super::{device::Disk, load};

/// What two threads read and 64 queued reads are.
const AT_ONCE_MAX: usize = 66;
const MORE: usize = 10;

/// A disk that answers no read while the lock is held.
#[derive(Debug)]
struct Silent(Disk, Arc<Mutex<()>>);

impl StorageBackend for Silent {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        drop(self.1.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[test]
fn a_list_is_refused_at_once_where_too_many_wait_and_the_others_get_theirs() {
    let disk = Disk::default();
    Store::create_on(disk.clone(), 0).unwrap();
    let silence = Arc::new(Mutex::new(()));
    let (place, told) = (disk, Arc::clone(&silence));
    // Without a cache every read asks the disk.
    let store = Store::open_on(move |_| Ok(Silent(place.clone(), Arc::clone(&told))), 0).unwrap();
    load::block_on(load::first_admin(&store));
    let silent = silence.lock().unwrap();
    let outcomes = load::block_on(async {
        let pages = (0..AT_ONCE_MAX + MORE).map(|_| store.user_page(UserFilter::default(), UsersFrom::Skip(0), 10));
        let mut pages: Vec<_> = pages.map(Box::pin).collect();
        let mut refused = 0;
        let mut waiting = Vec::new();
        for mut page in pages.drain(..) {
            match futures_util::poll!(&mut page) {
                std::task::Poll::Ready(Err(StoreError::Overloaded)) => refused += 1,
                std::task::Poll::Ready(_) => panic!("a read was answered by a silent disk"),
                std::task::Poll::Pending => waiting.push(page),
            }
        }
        assert!(refused >= MORE && waiting.len() >= AT_ONCE_MAX - 2, "{refused} refused, {} wait", waiting.len());
        drop(silent);
        join_all(waiting).await
    });
    assert!(outcomes.into_iter().all(|page| page.unwrap().items.len() == 1));
    store.close().unwrap();
}
