//! Files without a name (`O_TMPFILE`): they disappear with their last handle, however the process ends.
//!
//! Guarantees: they are readable by their owner alone (0600). On another Unix, or a file system without support, the file is created with
//! a temporary name; a kill can leave it behind.
//!
//! Why not `tempfile`: it cannot give an unnamed file its name (`linkat`). What it can persist has a temporary name from the start, which a
//! kill leaves behind, and its `persist` does not sync the directory.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

pub(in crate::store) use system::{create, link};

use crate::random;

/// Creates an empty temporary file in `dir` that never has a name.
///
/// # Errors
/// If it cannot be created.
pub fn scratch_file(dir: &Path) -> io::Result<File> {
    if let Some(file) = create(dir) {
        return Ok(file);
    }
    let path = dir.join(format!("scratch-{:032x}", u128::from_be_bytes(random::bytes())));
    let file = create_named(&path)?;
    fs::remove_file(&path).map(|()| file)
}

/// Creates an empty file at `path`, which must not exist.
pub(in crate::store) fn create_named(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(target_os = "linux")]
mod system {
    use std::{fs::File, io, os::fd::AsRawFd as _, path::Path};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

    /// Creates an empty unnamed file in `dir` that [`link`] can name. Returns `None` if the system or the file system does not support it.
    pub(in crate::store) fn create(dir: &Path) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(open(dir, flags, Mode::RUSR | Mode::WUSR).ok()?);
        Path::new(&by_number(&file)).exists().then_some(file) // [`link`] needs /proc
    }

    /// Gives the file of [`create`] the name `path` in the same directory. The name must be unused.
    pub(in crate::store) fn link(file: &File, path: &Path) -> io::Result<()> {
        Ok(linkat(CWD, by_number(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn by_number(file: &File) -> String {
        format!("/proc/self/fd/{}", file.as_raw_fd())
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::{fs::File, io, path::Path};

    pub(in crate::store) fn create(_: &Path) -> Option<File> {
        None
    }

    pub(in crate::store) fn link(_: &File, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
