//! The files of captures: one after the other, each and all together of bounded size.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::pcapng;
use crate::records::rfc3339;
use crate::records::{Lost, Records};

const PREFIX: &str = "meergate-";
const SUFFIX: &str = ".pcapng";

/// The file that is written to, and what is kept of those before it.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    max_file: u64,
    kept: usize,
    file: Records,
    written: u64,
    number: u32,
}

impl Files {
    /// Begins a file in `folder`; each has `max_file` bytes at most, give or take one packet, and of all
    /// that are there the newest `kept` stay.
    pub(super) fn begin(folder: &Path, max_file: u64, kept: usize) -> io::Result<Self> {
        let kept = kept.max(1);
        let (file, written) = create(folder, 0)?;
        let files = Self { folder: folder.to_owned(), max_file, kept, file, written, number: 0 };
        files.prune()?;
        Ok(files)
    }

    pub(super) fn write(&mut self, packet: &[u8]) -> Result<(), Lost> {
        if self.written + packet.len() as u64 > self.max_file {
            self.flush()?;
            self.begin_next().map_err(Lost::one)?;
        }
        self.written += packet.len() as u64;
        let done = self.file.push(packet);
        self.keep(done)
    }

    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        let done = self.file.flush();
        self.keep(done)
    }

    /// A file with a torn packet can't be gone on with.
    fn keep(&mut self, done: Result<(), Lost>) -> Result<(), Lost> {
        if done.as_ref().is_err_and(|lost| lost.is_torn) {
            self.written = self.max_file;
        }
        done
    }

    fn begin_next(&mut self) -> io::Result<()> {
        let (file, written) = create(&self.folder, self.number + 1)?;
        (self.file, self.written, self.number) = (file, written, self.number + 1);
        self.prune()
    }

    /// Removes the oldest files, also those of former runs.
    fn prune(&self) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let ours = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
            if ours {
                names.push(name);
            }
        }
        // Their names begin with the time.
        names.sort();
        let surplus = names.len().saturating_sub(self.kept);
        for name in &names[..surplus] {
            match fs::remove_file(self.folder.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A new file, and what is in it. Only its owner may read what others had encrypted.
fn create(folder: &Path, number: u32) -> io::Result<(Records, u64)> {
    let time = rfc3339(SystemTime::now()).replace([':', '-'], "");
    let process = std::process::id();
    let path = folder.join(format!("{PREFIX}{time}-{process}-{number:06}{SUFFIX}"));
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
    let mut file = Records::new(file);
    let head = pcapng::section();
    file.push(&head).and_then(|()| file.flush()).map_err(|lost| {
        // On a full disk there would be one for each packet, and captures are removed by their number.
        let _ = fs::remove_file(&path);
        lost.error
    })?;
    Ok((file, head.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("meergate-2020.pcapng"), "old").unwrap();
        fs::write(dir.path().join("other.pcapng"), "not ours").unwrap();
        let mut files = Files::begin(dir.path(), 1000, 3).unwrap();
        for _ in 0..100 {
            files.write(&[0; 300]).unwrap();
        }
        files.flush().unwrap();
        drop(files);
        let mut sizes = Vec::new();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name != "other.pcapng" {
                assert_ne!(name, "meergate-2020.pcapng");
                sizes.push(entry.metadata().unwrap().len());
            }
        }
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        assert!(dir.path().join("other.pcapng").exists());
    }
}
