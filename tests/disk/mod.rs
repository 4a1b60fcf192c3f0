//! Failures of the disk: power loss, errors, no space, flipped bits; and a killed process.

mod busy_readers;
mod caller_cache;
mod device;
mod faults;
mod feed;
mod flips;
mod images;
mod kills;
mod load;
mod power;
mod service_cache;
