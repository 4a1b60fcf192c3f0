//! Power loss: every possible content of the disk opens at once, with all acknowledged writes and no partial transaction.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use latchkey::store::{self, Store};

use super::{
    device::{Disk, Event, Fault},
    images::{Dice, Platter},
    load::{self, CACHE_BYTES, Feed, Worker},
};

/// The events of a disk, and the workers that caused them.
struct Recording {
    /// The content of the disk when the file got its name.
    created: Vec<u8>,
    trace: Vec<Event>,
    workers: Vec<Worker>,
}

/// The number of steps that each worker has begun and done.
#[derive(Clone)]
struct Progress {
    begun: Vec<usize>,
    done: Vec<usize>,
}

impl Progress {
    fn start() -> Self {
        Self { begun: vec![0; load::WORKERS], done: vec![0; load::WORKERS] }
    }

    fn go_on(&mut self, event: &Event) {
        match event {
            Event::Begun(worker) => self.begun[*worker] += 1,
            Event::Done(worker) => self.done[*worker] += 1,
            _ => {}
        }
    }
}

/// Creates a database and runs the load on it. With `faults` the disk fails from time to time, and the store opens it again.
fn record(rounds: usize, faults: Option<u64>) -> Recording {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    // I6: the file gets its name now, so that all data must be on the disk.
    let mut platter = Platter::new(Vec::new());
    let mut dice = Dice::new(0);
    disk.take_trace().iter().for_each(|event| platter.go_on(event, &mut dice));
    assert!(platter.is_synced(), "the file gets its name before it is complete");
    let created = disk.bytes();

    let workers = load::workers(rounds);
    load::block_on(async {
        let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
        load::first_admin(&store).await;
        if let Some(seed) = faults {
            let fails = FailsNowAndThen { disk: disk.clone(), seed };
            fails.during(load::work(&workers, &store, &disk, true)).await;
        } else {
            load::work(&workers, &store, &disk, false).await;
        }
        store.close().unwrap();
    });
    assert_eq!(disk.failed() > 0, faults.is_some());
    let trace = disk.take_trace();
    Recording { created, trace, workers }
}

/// Makes syncs and writes fail at random while a future runs.
struct FailsNowAndThen {
    disk: Disk,
    seed: u64,
}

impl FailsNowAndThen {
    async fn during(&self, work: impl Future<Output = ()>) {
        let mut dice = Dice::new(self.seed);
        let plan = async {
            loop {
                let from = self.disk.operations() + dice.below(150) as u64;
                let fault = [Fault::Sync, Fault::Sync, Fault::Short, Fault::NoSpace][dice.below(4)];
                self.disk.fail(fault, from..from + 1);
                let failed = self.disk.failed();
                while self.disk.failed() == failed {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::select! { () = work => {}, () = plan => {} }
        self.disk.mend();
    }
}

/// Opens an image of the disk and checks it. Returns the events that opening caused, or what is wrong with the image.
fn check_hash(image: Vec<u8>, workers: &[Worker], progress: &Progress, deep: bool) -> Result<Vec<Event>, String> {
    if deep {
        let disk = Disk::with(image.clone());
        store::check_on(disk, Path::new("the image"), |_| Ok(()), &mut |_, _| ()).map_err(|error| error.to_string())?;
    }
    let disk = Disk::with(image);
    let store = Store::open_on(disk.place(), CACHE_BYTES).map_err(|error| error.to_string())?;
    let feed = Feed::read(&store).map_err(|error| error.to_string())?;
    for (number, worker) in workers.iter().enumerate() {
        let look = worker.look(&store).map_err(|error| error.to_string())?;
        worker.compare(&store, &feed)?;
        let (done, begun) = (progress.done[number], progress.begun[number]);
        if !load::is_one_of(&look, &worker.looks[done..=begun]) {
            return Err(format!("worker {number} was told of {done} and asked for {begun}: {look:#?}"));
        }
    }
    drop(store);
    Ok(disk.take_trace())
}

/// Simulates a power loss at every point of the recording, with about `images` images in total. Returns their number.
fn cut(recording: &Recording, images: usize, seed: u64) -> usize {
    // For a quarter of the images the power fails again while they open, which makes another image.
    let each = (images * 4 / 5).div_ceil(recording.trace.len());
    let (next, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let (mut platter, mut progress) = (Platter::new(recording.created.clone()), Progress::start());
                let mut past = Dice::new(seed);
                let mut mine = next.fetch_add(1, Ordering::Relaxed);
                for (point, event) in recording.trace.iter().enumerate() {
                    platter.go_on(event, &mut past);
                    progress.go_on(event);
                    if point == mine {
                        let mut dice = Dice::new(seed ^ (point as u64) << 20);
                        for n in 0..each {
                            let here = images_here(&platter, recording, &progress, (point, n), &mut dice);
                            made.fetch_add(here, Ordering::Relaxed);
                        }
                        mine = next.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    made.into_inner()
}

/// Checks one image, and sometimes another one after a second power loss. Returns their number.
fn images_here(
    platter: &Platter,
    recording: &Recording,
    progress: &Progress,
    (point, n): (usize, usize),
    dice: &mut Dice,
) -> usize {
    let wrong = |error: String| panic!("cut at {point} of {}, image {n}: {error}", recording.trace.len());
    let image = platter.image(dice);
    let second = dice.below(4) == 0;
    let first = check_hash(image.clone(), &recording.workers, progress, dice.below(8) == 0).unwrap_or_else(wrong);
    if !second {
        return 1;
    }
    let (mut platter, end) = (Platter::new(image), dice.below(first.len() + 1));
    first[..end].iter().for_each(|event| platter.go_on(event, dice));
    check_hash(platter.image(dice), &recording.workers, progress, false).unwrap_or_else(wrong);
    2
}

/// Checks at least this many images, with and without a disk that fails from time to time before the power loss.
fn cuts(images: usize) {
    let (mut made, mut seed) = (0, 0);
    while made < images {
        seed += 1;
        let faults = (seed % 2 == 0).then_some(seed);
        made += cut(&record(2, faults), (images / 2).min(50_000), seed);
    }
    println!("{made} images of what a disk may hold after a power cut: none lost anything, none did not open");
}

#[test]
fn after_a_power_cut_it_opens_with_all_that_was_acknowledged_and_nothing_half_done() {
    cuts(20_000);
}

#[test]
#[ignore = "long: ten minutes"]
fn after_many_power_cuts() {
    cuts(500_000);
}
