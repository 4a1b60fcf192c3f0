//! A copy-on-write backend: writes stay in memory and never reach the file.
//!
//! redb's integrity check commits, and so does a migration. Over this backend a file is opened, checked and migrated without a change, and
//! with read permission alone. Memory grows with what is written; a check writes little. A file that another process writes to is not
//! opened.

use std::{
    collections::HashMap,
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard},
};

use redb::{BackendError, StorageBackend};

const BLOCK: u64 = 4096;
const BLOCK_BYTES: usize = 4096;
type Block = [u8; BLOCK_BYTES];

/// The file and the blocks that were written over it.
#[derive(Debug)]
pub(in crate::store) struct CopyOnWriteStorage<B> {
    file: B,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Up to this offset, unwritten blocks read from the file; after it they read as zeros.
    file_len: u64,
    blocks: HashMap<u64, Box<Block>>,
}

impl<B: StorageBackend> CopyOnWriteStorage<B> {
    pub(in crate::store) fn new(file: B) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, written: Mutex::new(Written { len, file_len: len, blocks: HashMap::new() }) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("BUG: nothing panics while it is locked")
    }

    /// Reads from the file at `start`, and zeros after its end.
    fn beneath(&self, written: &Written, start: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(written.file_len.saturating_sub(start)).unwrap_or(usize::MAX).min(out.len());
        let (there, behind) = out.split_at_mut(there);
        behind.fill(0);
        if there.is_empty() { Ok(()) } else { self.file.read(start, there) }
    }
}

/// Splits `offset..offset + len` at block boundaries. Each part is the number of the block, the offset in it and the length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let start = offset.max(block * BLOCK);
        let stop = end.min((block + 1) * BLOCK);
        let within = |position: u64| usize::try_from(position).expect("BUG: a block is small");
        (block, within(start - block * BLOCK), within(stop - start))
    })
}

impl<B: StorageBackend> StorageBackend for CopyOnWriteStorage<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.beneath(&written, offset, out)?;
        let mut done = 0;
        for (block, at, len) in parts(offset, out.len()) {
            if let Some(over) = written.blocks.get(&block) {
                out[done..done + len].copy_from_slice(&over[at..at + len]);
            }
            done += len;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.len = len;
        if len < written.file_len {
            written.file_len = len; // a truncated part reads as zeros if the file grows again
        }
        let keep = len.div_ceil(BLOCK);
        written.blocks.retain(|block, _| *block < keep);
        let rest = usize::try_from(len % BLOCK).expect("BUG: a block is small");
        if rest > 0
            && let Some(last) = written.blocks.get_mut(&(len / BLOCK))
        {
            last[rest..].fill(0);
        }
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end) // the file is never written
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let mut done = 0;
        for (block, at, len) in parts(offset, data.len()) {
            if !written.blocks.contains_key(&block) {
                let mut fresh = Box::new([0; BLOCK_BYTES]);
                self.beneath(&written, block * BLOCK, fresh.as_mut_slice())?;
                written.blocks.insert(block, fresh);
            }
            let over = written.blocks.get_mut(&block).expect("BUG: it was just put there");
            over[at..at + len].copy_from_slice(&data[done..done + len]);
            done += len;
        }
        Ok(())
    }
}
