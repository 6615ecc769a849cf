//! A file as the body of a message.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use icap_client::{BodyError, BodySource, Frame};
use tokio::io::{AsyncRead, ReadBuf};

use start_error::StartError;

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// Opens a file that is to be sent; its length too.
pub(super) fn open(path: &Path) -> Result<(File, u64), StartError> {
    let place = path.display().to_string();
    let fail = |e: io::Error| {
        StartError::new(format!("cannot read the file ({e})"), &place, "name a file that exists")
    };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(StartError::new("not a file", place, "name one whose length is known")),
    }
}

/// Reads a file as it is asked for.
pub(super) struct FileBody {
    file: tokio::fs::File,
    left: u64,
    block: Vec<u8>,
}

impl FileBody {
    /// The first `length` bytes of `file`.
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { file: file.into(), left: length, block: vec![0; BLOCK] }
    }
}

impl BodySource for FileBody {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = this.left.min(BLOCK as u64) as usize;
        let mut room = ReadBuf::new(&mut this.block[..most]);
        let read = std::task::ready!(Pin::new(&mut this.file).poll_read(cx, &mut room));
        let data = Bytes::copy_from_slice(room.filled());
        Poll::Ready(Some(match read {
            Ok(()) if data.is_empty() => {
                this.left = 0;
                Err(BodyError::source("the file has become shorter"))
            }
            Ok(()) => {
                this.left -= data.len() as u64;
                Ok(Frame::Data(data))
            }
            Err(error) => Err(error.into()),
        }))
    }

    fn exact_length(&self) -> Option<u64> {
        Some(self.left)
    }
}

/// Compares what comes back with the file that was sent.
pub(super) struct Comparison {
    file: Option<File>,
    got: u64,
    differs_at: Option<u64>,
}

impl Comparison {
    /// With the file at `path`.
    pub(super) fn new(path: &Path) -> Result<Self, StartError> {
        Ok(Self { file: Some(open(path)?.0), got: 0, differs_at: None })
    }

    /// The next bytes that came back.
    pub(super) fn add(&mut self, data: &[u8]) {
        if let Some(file) = &mut self.file {
            let mut sent = Vec::with_capacity(data.len());
            let read = file.take(data.len() as u64).read_to_end(&mut sent);
            let same = data.iter().zip(&sent).take_while(|(a, b)| a == b).count();
            if same < data.len() || read.is_err() {
                self.differs_at = Some(self.got + same as u64);
                self.file = None;
            }
        }
        self.got += data.len() as u64;
    }

    /// What has been found, of a file of `length` bytes.
    pub(super) fn words(&self, length: u64) -> String {
        match self.differs_at.or((self.got < length).then_some(self.got)) {
            None => format!("{} bytes, as sent", self.got),
            Some(at) => {
                format!("{} bytes, sent were {length}; they differ from byte {at} on", self.got)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_wherever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"abcdef").unwrap();
        for (pieces, words) in [
            (vec!["abc", "def"], "6 bytes, as sent"),
            (vec!["abX", "def"], "6 bytes, sent were 6; they differ from byte 2 on"),
            (vec!["abcdef", "g"], "7 bytes, sent were 6; they differ from byte 6 on"),
            (vec!["ab"], "2 bytes, sent were 6; they differ from byte 2 on"),
            (vec![], "0 bytes, sent were 6; they differ from byte 0 on"),
        ] {
            let mut comparison = Comparison::new(&path).unwrap();
            pieces.iter().for_each(|piece| comparison.add(piece.as_bytes()));
            assert_eq!(comparison.words(6), words, "{pieces:?}");
        }
    }
}
