//! Who may use the files of the server: the owner of what root makes in a data directory, and modes that let others in.
//!
//! Guarantees: what root makes in a data directory belongs to the owner of the directory, so that the server, which runs as that user, can
//! open it. A file that root did not just create is never given away, because that user may have put a link there. What others can write
//! to is refused, and what others can read is warned about.

use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown, lchown},
    path::Path,
};

/// The part of the log. Commands show it, unlike the errors of the store, which they print themselves.
const LOG: &str = "latchkey::files";
const WORLD_CAN_READ: u32 = 0o004;
const WORLD_CAN_ENTER: u32 = 0o005;
const WORLD_CAN_WRITE: u32 = 0o002;
const GROUP_CAN_WRITE: u32 = 0o020;
const SET_GROUP_ID: u32 = 0o2000;

/// Gives `file`, which was just created in the data directory `dir` (`create_new`), to the owner and group of `dir` if it belongs to root.
pub(in crate::store) fn give_to_owner_of(dir: &Path, file: &File) {
    give(dir, file.metadata(), |uid, gid| fchown(file, Some(uid), Some(gid)));
}

/// Like `give_to_owner_of`, for what cannot be opened, such as a socket.
pub fn give_path_to_owner_of(dir: &Path, path: &Path) {
    give(dir, fs::symlink_metadata(path), |uid, gid| lchown(path, Some(uid), Some(gid)));
}

fn give(dir: &Path, file: io::Result<Metadata>, change: impl FnOnce(u32, u32) -> io::Result<()>) {
    let given = file.and_then(|file| {
        let owner = fs::metadata(dir)?;
        let is_new = !file.is_symlink() && file.nlink() <= 1;
        if is_new && file.uid() == 0 && owner.uid() != 0 { change(owner.uid(), owner.gid()) } else { Ok(()) }
    });
    if let Err(error) = given {
        tracing::warn!(target: LOG, %error, dir = %dir.display(), "cannot give a new file to the owner of the data directory");
    }
}

/// Refuses a data directory that others can write to, and warns about one that everybody can look into.
pub(in crate::store) fn check_dir(dir: &Path) -> io::Result<()> {
    let found = fs::metadata(dir)?;
    let mode = found.permissions().mode();
    // Kubernetes gives a volume to a group like this (`fsGroup`), and there is no other way in.
    let is_of_group = mode & (SET_GROUP_ID | GROUP_CAN_WRITE) == SET_GROUP_ID | GROUP_CAN_WRITE;
    if mode & WORLD_CAN_WRITE != 0 || mode & GROUP_CAN_WRITE != 0 && !is_of_group {
        // A container cannot change the mode of a volume that belongs to another user.
        if fs::set_permissions(dir, found.permissions()).is_ok() {
            return Err(others_can_write("700", dir));
        }
        tracing::warn!(target: LOG, dir = %dir.display(), "others can write to the data directory, and its owner is another user");
    }
    if mode & WORLD_CAN_ENTER != 0 {
        let advice = format!("chmod 700 {}", dir.display());
        tracing::warn!(target: LOG, %advice, "everybody on this machine can look into the data directory");
    }
    Ok(())
}

/// Refuses a file with a secret that others can write to, and warns about one that everybody can read. Takes its path and what the system
/// says about it. Pipes and devices have no mode that matters.
///
/// # Errors
/// `PermissionDenied` with what to do if others can write to it; any error of the operating system.
pub fn check_secret(path: &Path, found: &Metadata) -> io::Result<()> {
    let mode = found.permissions().mode();
    if !found.is_file() {
        return Ok(());
    }
    // On a volume that Kubernetes gives to a group, every file gets its mode.
    let dir_of_group = || {
        let dir = path.parent().and_then(|dir| fs::metadata(dir).ok());
        dir.is_some_and(|dir| dir.permissions().mode() & SET_GROUP_ID != 0 && dir.gid() == found.gid())
    };
    if mode & WORLD_CAN_WRITE != 0 || mode & GROUP_CAN_WRITE != 0 && !dir_of_group() {
        return Err(others_can_write("600", path));
    }
    if mode & WORLD_CAN_READ != 0 {
        let advice = format!("chmod 600 {}", path.display());
        tracing::warn!(target: LOG, %advice, "everybody on this machine can read a file with a secret");
    }
    Ok(())
}

fn others_can_write(mode: &str, path: &Path) -> io::Error {
    let advice = format!("others can write to it; if its content is yours, run: chmod {mode} {}", path.display());
    io::Error::new(ErrorKind::PermissionDenied, advice)
}
