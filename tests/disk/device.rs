//! A disk in memory that records all operations, and fails when the test wants it.

use std::{
    fmt,
    io::{self, ErrorKind},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
};

use latchkey::store::AccessMode;
use redb::StorageBackend;

/// An event on the disk, or of a worker that uses it.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write(usize, Arc<[u8]>),
    SetLen(usize),
    Sync,
    /// After a failed sync, the data written since the last successful sync may be on the disk or not. No later sync writes it, because the
    /// operating system has dropped it from its cache or considers it clean.
    FailedSync,
    /// A worker requests its next step.
    Begun(usize),
    /// A worker was told that its step is done.
    Done(usize),
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every operation fails.
    Io,
    /// Writes, growth of the file and syncs fail because the disk is full. Reads work.
    NoSpace,
    /// A write stores half of its data and fails. Growth of the file and syncs fail. Reads work.
    Short,
    /// Syncs fail. Reads and writes work.
    Sync,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    trace: Vec<Event>,
    operations: u64,
    fault: Option<(Fault, Range<u64>)>,
    failed: u64,
}

/// The disk. Clones share the same data.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    pub(crate) fn with(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().bytes = bytes;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Returns the function with which a store opens the disk.
    pub(crate) fn place(&self) -> impl Fn(AccessMode) -> io::Result<Self> + Send + Sync + 'static {
        let disk = self.clone();
        move |_| Ok(disk.clone())
    }

    pub(crate) fn note(&self, event: Event) {
        self.state().trace.push(event);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    pub(crate) fn take_trace(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().trace)
    }

    /// Returns how often the disk was read, written, resized and synced.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Returns how many of these operations failed.
    pub(crate) fn failed(&self) -> u64 {
        self.state().failed
    }

    /// Makes the operations with these numbers fail, counted from the creation of the disk.
    pub(crate) fn fail(&self, fault: Fault, operations: Range<u64>) {
        self.state().fault = Some((fault, operations));
    }

    pub(crate) fn mend(&self) {
        if let Some((_, operations)) = &mut self.state().fault {
            *operations = 0..0;
        }
    }

    /// Returns whether reads always work, also if other operations fail.
    pub(crate) fn can_be_read(&self) -> bool {
        self.state().fault.as_ref().is_none_or(|(fault, _)| *fault != Fault::Io)
    }

    /// Counts the next operation and returns its failure, if it fails.
    fn next(state: &mut State, hit: impl Fn(Fault) -> bool) -> Option<(Fault, io::Error)> {
        let place = state.operations;
        state.operations += 1;
        let fault = state.fault.as_ref().filter(|(fault, range)| range.contains(&place) && hit(*fault))?.0;
        state.failed += 1;
        let kind = if fault == Fault::NoSpace { ErrorKind::StorageFull } else { ErrorKind::Other };
        Some((fault, io::Error::new(kind, "as the test wants it")))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Some((_, error)) = Self::next(&mut state, |fault| fault == Fault::Io) {
            return Err(error);
        }
        let start = usize::try_from(offset).unwrap();
        let there = state.bytes.get(start..start + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let grows = len > state.bytes.len() as u64;
        if let Some((_, error)) = Self::next(&mut state, |fault| fault == Fault::Io || grows && fault != Fault::Sync) {
            return Err(error);
        }
        let len = usize::try_from(len).unwrap();
        state.bytes.resize(len, 0);
        state.trace.push(Event::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        // A file system with delayed allocation may report only at the sync that the disk is full.
        if let Some((_, error)) = Self::next(&mut state, |_| true) {
            state.trace.push(Event::FailedSync);
            return Err(error);
        }
        state.trace.push(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let failed = Self::next(&mut state, |fault| fault != Fault::Sync);
        let done = match failed {
            Some((Fault::Short, _)) => data.len() / 2,
            Some(_) => 0,
            None => data.len(),
        };
        let start = usize::try_from(offset).unwrap();
        if done > 0 {
            if state.bytes.len() < start + done {
                state.bytes.resize(start + done, 0);
            }
            state.bytes[start..start + done].copy_from_slice(&data[..done]);
            state.trace.push(Event::Write(start, data[..done].into()));
        }
        failed.map_or(Ok(()), |(_, error)| Err(error))
    }
}
