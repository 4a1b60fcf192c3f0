//! The possible contents of a disk after a power loss at some point of a trace.
//!
//! Synced data is on the disk. Any part of the unsynced data may be there: of each write everything, nothing, or some of its sectors; of
//! each change of length everything or nothing. Sectors that are written in any order have the same effect as some missing sectors.

use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};

use super::device::Event;

const SECTOR: usize = 512;

/// A generator of random numbers, which are the same for the same seed.
pub(crate) struct Dice(TestRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % end as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Follows a trace and tracks which data is certainly on the disk, and which data may be.
pub(crate) struct Platter {
    synced: Vec<u8>,
    unsynced: Vec<Event>,
}

impl Platter {
    pub(crate) fn new(synced: Vec<u8>) -> Self {
        Self { synced, unsynced: Vec::new() }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    pub(crate) fn go_on(&mut self, event: &Event, dice: &mut Dice) {
        match event {
            Event::Write(..) | Event::SetLen(_) => self.unsynced.push(event.clone()),
            Event::Sync => {
                for event in self.unsynced.drain(..) {
                    apply(&mut self.synced, &event, |_| true);
                }
            }
            Event::FailedSync => {
                self.synced = self.image(dice);
                self.unsynced.clear();
            }
            Event::Begun(_) | Event::Done(_) => {}
        }
    }

    /// Returns one possible content of the disk at this point.
    pub(crate) fn image(&self, dice: &mut Dice) -> Vec<u8> {
        let mut image = self.synced.clone();
        let manner = dice.below(8);
        let last = self.unsynced.len().saturating_sub(1);
        let odd = dice.below(self.unsynced.len().max(1));
        for (n, event) in self.unsynced.iter().enumerate() {
            let at_the_header = matches!(event, Event::Write(0, _));
            match manner {
                0 => apply(&mut image, event, |_| true),
                1 => {}
                2 => apply(&mut image, event, |_| n < last || dice.one_in(2)),
                3 => apply(&mut image, event, |_| n != odd),
                4 => apply(&mut image, event, |_| n == odd || at_the_header),
                5 => {
                    let there = dice.one_in(2);
                    apply(&mut image, event, |_| there);
                }
                6 => {
                    let there = dice.one_in(4);
                    apply(&mut image, event, |_| !there);
                }
                _ => apply(&mut image, event, |_| dice.one_in(2)),
            }
        }
        image
    }
}

/// Applies an event of the disk to `bytes`, in those sectors for which `is_there` returns true.
fn apply(bytes: &mut Vec<u8>, event: &Event, mut is_there: impl FnMut(usize) -> bool) {
    match event {
        Event::Write(start, data) => {
            let mut done = 0;
            while done < data.len() {
                let at = start + done;
                let part = (SECTOR - at % SECTOR).min(data.len() - done);
                if is_there(at / SECTOR) {
                    if bytes.len() < at + part {
                        bytes.resize(at + part, 0);
                    }
                    bytes[at..at + part].copy_from_slice(&data[done..done + part]);
                }
                done += part;
            }
        }
        Event::SetLen(len) if is_there(0) => bytes.resize(*len, 0),
        _ => {}
    }
}
