//! The progress callback of long work on whole files.

/// Progress callback: `(done, total)`.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);
