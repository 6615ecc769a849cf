//! The modes of files and sockets that the program, and Suricata in it, make: set, and not what the shell's umask
//! leaves of them.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::umask;

/// From now on files are made with 0640 and folders with 0750, in processes that this one starts too.
pub(crate) fn set() {
    umask(Mode::WGRP | Mode::RWXO);
}

/// Makes a socket that listens at `path`, with `mode` from the first moment. Not for a program that may be making
/// files in other threads: they would have the wrong modes.
///
/// # Errors
/// As [`UnixListener::bind`].
pub(crate) fn bind(path: &Path, mode: Mode) -> io::Result<UnixListener> {
    let before = umask(!mode);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}
