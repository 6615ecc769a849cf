//! Files that the program writes: their mode is set, and not what the umask leaves of it.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Opens `path` by `options`; a file that is not there is made with exactly `mode`. One that is keeps
/// its own. A link that leads to no file is not followed to make one.
pub(crate) fn open(options: &OpenOptions, path: &Path, mode: u32) -> io::Result<File> {
    match options.clone().create_new(true).mode(mode).open(path) {
        Ok(file) => {
            file.set_permissions(Permissions::from_mode(mode))?;
            Ok(file)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_has_its_mode_and_what_is_there_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        open(OpenOptions::new().append(true), &path, 0o666).unwrap();
        assert_eq!(mode(), 0o666);
        open(OpenOptions::new().append(true), &path, 0o600).unwrap();
        assert_eq!(mode(), 0o666);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert!(open(OpenOptions::new().append(true), &link, 0o600).is_err());
        assert!(!dir.path().join("nowhere").exists());
    }
}
