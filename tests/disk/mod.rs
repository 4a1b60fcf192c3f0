//! What a disk can do to us: the power is cut, it fails, it is full, it turns a bit over, and the process is killed.

mod device;
mod faults;
mod flips;
mod images;
mod kills;
mod load;
mod power;
