//! Opening files: a path the user gave, and paths that a model file gave.
//!
//! A path from a model must stay beneath the model's directory whatever the directory holds, so it is resolved by
//! the kernel with `openat2` (no symbolic link at any level, no way up) where that exists, and otherwise one
//! component at a time without following links. Nothing here checks first and opens later.

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What every open of a data file uses: reading, never waiting for the other end of a pipe, never
/// becoming the process's terminal.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens a path that the user gave; links are followed.
pub(super) fn open_trusted(path: &Path) -> io::Result<File> {
    Ok(File::from(openat(CWD, path, READ, Mode::empty())?))
}

/// Opens the directory that paths of a model are resolved in.
pub(super) fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// Opens `parts` beneath `dir`. With `follow`, links are followed wherever they lead.
pub(super) fn open_beneath(dir: &OwnedFd, parts: &[&str], follow: bool) -> io::Result<File> {
    if follow {
        return Ok(File::from(openat(dir, parts.join("/"), READ, Mode::empty())?));
    }
    #[cfg(target_os = "linux")]
    match open_at_once(dir, parts) {
        // Old kernels and some sandboxes lack the call; a rename meanwhile makes it give up.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
        opened => return Ok(File::from(opened?)),
    }
    open_stepwise(dir, parts)
}

#[cfg(target_os = "linux")]
fn open_at_once(dir: &OwnedFd, parts: &[&str]) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(dir, parts.join("/"), READ | OFlags::NOFOLLOW, Mode::empty(), resolve)
}

/// The same by hand: each directory is opened from the one before it, and none may be a link.
fn open_stepwise(dir: &OwnedFd, parts: &[&str]) -> io::Result<File> {
    let Some((last, dirs)) = parts.split_last() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let step = |at: BorrowedFd<'_>, name: &str, flags: OFlags| {
        let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if plain { openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty()) } else { Err(Errno::INVAL) }
    };
    let mut held: Option<OwnedFd> = None;
    for name in dirs {
        let at = held.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        held = Some(step(at, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY)?);
    }
    Ok(File::from(step(held.as_ref().map_or(dir.as_fd(), AsFd::as_fd), last, READ)?))
}

/// Whether an open failed because a link was in the way.
pub(super) fn met_link(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::XDEV | Errno::MLINK))
}

/// The bytes of a regular file: mapped, or copied where the file's other users are not trusted.
pub(super) fn contents(file: &File, copy: bool) -> io::Result<Bytes> {
    if !copy {
        return Ok(Bytes::from_owner(autoglm_runtime::mapped::map_file(file)?));
    }
    let len = file.metadata()?.len();
    let size = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(len).read_to_end(&mut bytes)?;
    Ok(Bytes::from(bytes))
}

/// An I/O error without the operating system's error number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stepwise_way_refuses_what_the_kernel_refuses() {
        let root = std::env::temp_dir().join(format!("autoglm-beneath-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("in/sub")).unwrap();
        std::fs::write(root.join("secret"), b"s").unwrap();
        std::fs::write(root.join("in/sub/ok"), b"fine").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("in/link")).unwrap();
        std::os::unix::fs::symlink("sub", root.join("in/linkdir")).unwrap();
        let dir = open_dir(&root.join("in")).unwrap();
        let read = |file: File| contents(&file, false).unwrap();
        assert_eq!(read(open_stepwise(&dir, &["sub", "ok"]).unwrap()), &b"fine"[..]);
        assert_eq!(read(open_beneath(&dir, &["sub", "ok"], false).unwrap()), &b"fine"[..]);
        assert_eq!(read(open_beneath(&dir, &["linkdir", "ok"], true).unwrap()), &b"fine"[..]);
        for parts in
            [&["link"][..], &["linkdir", "ok"], &["..", "secret"], &["sub", "..", "..", "secret"], &[]]
        {
            assert!(open_stepwise(&dir, parts).is_err(), "{parts:?}");
            assert!(open_beneath(&dir, parts, false).is_err(), "{parts:?}");
        }
        assert!(met_link(&open_stepwise(&dir, &["link"]).unwrap_err()));
        assert!(met_link(&open_beneath(&dir, &["link"], false).unwrap_err()));
        std::fs::remove_dir_all(&root).unwrap();
    }
}
