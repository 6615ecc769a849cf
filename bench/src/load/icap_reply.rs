//! Reading ICAP replies where they lie, comparing bodies with the pattern.

use memchr::memmem;

use crate::pattern::Check;

/// Heads and chunk lines above this are an error.
const MAX_HEAD: usize = 64 << 10;

/// One reply as it arrives.
#[derive(Debug, Default)]
pub struct Reply {
    state: State,
    /// What of a head or a chunk line came before the present piece.
    kept: Vec<u8>,
    status: u16,
    closes: bool,
    has_body: bool,
    body: Check,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    HttpHead(usize),
    ChunkLine,
    Chunk(usize),
    ChunkEnd(usize),
    Trailers,
}

/// What came of a piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// `100 Continue`; the real reply follows.
    Continue,
    /// The reply is complete.
    End {
        /// Whether the connection can't be used again.
        closes: bool,
    },
    /// More must be read.
    More,
}

impl Reply {
    /// Takes what was read.
    ///
    /// # Errors
    /// What about the reply is not ICAP.
    pub fn take(&mut self, mut data: &[u8]) -> Result<Step, String> {
        loop {
            match &mut self.state {
                State::Head => {
                    let Some(head) = self.until(&mut data, b"\r\n\r\n")? else {
                        return Ok(Step::More);
                    };
                    self.head(&head)?;
                    if self.status == 100 {
                        *self = Self::default();
                        return if data.is_empty() {
                            Ok(Step::Continue)
                        } else {
                            Err("bytes after 100 Continue".into())
                        };
                    }
                }
                State::HttpHead(left) | State::ChunkEnd(left) | State::Chunk(left) if *left > 0 => {
                    if data.is_empty() {
                        return Ok(Step::More);
                    }
                    let (now, rest) = data.split_at(data.len().min(*left));
                    *left -= now.len();
                    data = rest;
                    if matches!(self.state, State::Chunk(_)) {
                        self.body.take(now);
                    }
                }
                State::HttpHead(_) => {
                    if !self.has_body {
                        return self.end(data);
                    }
                    self.state = State::ChunkLine;
                }
                State::Chunk(_) => self.state = State::ChunkEnd(2),
                State::ChunkEnd(_) => self.state = State::ChunkLine,
                State::ChunkLine => {
                    let Some(line) = self.until(&mut data, b"\r\n")? else {
                        return Ok(Step::More);
                    };
                    self.state = match chunk_size(&line)? {
                        0 => State::Trailers,
                        size => State::Chunk(size),
                    };
                }
                State::Trailers => {
                    let Some(line) = self.until(&mut data, b"\r\n")? else {
                        return Ok(Step::More);
                    };
                    if line == b"\r\n" {
                        return self.end(data);
                    }
                }
            }
        }
    }

    /// Whether the complete reply is the message of `body` bytes unchanged.
    ///
    /// # Errors
    /// The status, if it is neither 200 nor 204.
    pub fn is_right(&self, body: u64) -> Result<bool, String> {
        match self.status {
            204 => Ok(true),
            200 => Ok(self.body.is_exactly(body)),
            status => Err(format!("ICAP status {status}")),
        }
    }

    fn end(&self, data: &[u8]) -> Result<Step, String> {
        if data.is_empty() {
            Ok(Step::End { closes: self.closes })
        } else {
            Err("bytes after the reply".into())
        }
    }

    fn head(&mut self, head: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("ICAP/1.0 "))
            .and_then(|line| line.get(..3)?.parse().ok());
        self.status = status.ok_or("no ICAP status line")?;
        let mut http_head = 0;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("connection") {
                self.closes |= value.trim().eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("encapsulated") {
                let last = value.rsplit(',').next().unwrap_or_default();
                let (part, offset) = last.trim().split_once('=').ok_or("bad Encapsulated")?;
                http_head = offset.trim().parse().map_err(|_| "bad Encapsulated")?;
                self.has_body = part != "null-body";
            }
        }
        self.state = State::HttpHead(http_head);
        Ok(())
    }

    /// What was kept and what leads up to and with `end`; keeps all if that has not come.
    fn until(&mut self, data: &mut &[u8], end: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if self.kept.len() + data.len().min(MAX_HEAD) > 2 * MAX_HEAD {
            return Err("a head or line without end".into());
        }
        let before = self.kept.len();
        let found = if before == 0 {
            memmem::find(data, end).map(|at| at + end.len())
        } else {
            // The end may straddle the pieces.
            let overlap = before.min(end.len() - 1);
            let mut joint = self.kept[before - overlap..].to_vec();
            joint.extend_from_slice(&data[..data.len().min(MAX_HEAD)]);
            memmem::find(&joint, end).map(|at| at + end.len() - overlap)
        };
        let Some(len) = found else {
            self.kept.extend_from_slice(data);
            *data = &[];
            return Ok(None);
        };
        let (now, rest) = data.split_at(len);
        *data = rest;
        let mut whole = std::mem::take(&mut self.kept);
        whole.extend_from_slice(now);
        Ok(Some(whole))
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, String> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    usize::from_str_radix(digits, 16).map_err(|_| format!("bad chunk line {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern;

    fn reply(body: u64) -> Vec<u8> {
        let http = "HTTP/1.1 200 OK\r\n\r\n";
        let mut wire = format!(
            "ICAP/1.0 200 OK\r\nISTag: \"1\"\r\nEncapsulated: res-hdr=0, res-body={}\r\n\r\n{http}",
            http.len()
        )
        .into_bytes();
        for piece in pattern::pieces(body, 1000) {
            wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            wire.extend_from_slice(&piece);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        wire
    }

    #[test]
    fn a_reply_cut_anywhere_is_read_alike() {
        let wire = reply(2500);
        for cut in 1..wire.len() {
            let mut reply = Reply::default();
            assert_eq!(reply.take(&wire[..cut]), Ok(Step::More), "cut at {cut}");
            assert_eq!(reply.take(&wire[cut..]), Ok(Step::End { closes: false }), "cut at {cut}");
            assert_eq!(reply.is_right(2500), Ok(true));
        }
    }

    #[test]
    fn a_wrong_body_and_a_foreign_status_are_told() {
        let mut wire = reply(2500);
        let at = wire.len() - 40;
        wire[at] ^= 1;
        let mut reply = Reply::default();
        assert!(matches!(reply.take(&wire), Ok(Step::End { .. })));
        assert_eq!(reply.is_right(2500), Ok(false));

        let mut reply = Reply::default();
        let wire = b"ICAP/1.0 500 Server error\r\nConnection: close\r\n\r\n";
        assert_eq!(reply.take(wire), Ok(Step::End { closes: true }));
        assert!(reply.is_right(0).is_err());
    }

    #[test]
    fn continue_is_told_and_the_next_reply_read() {
        let mut reply = Reply::default();
        assert_eq!(reply.take(b"ICAP/1.0 100 Continue\r\n\r\n"), Ok(Step::Continue));
        let wire = b"ICAP/1.0 204 No Content\r\nISTag: \"1\"\r\n\r\n";
        assert_eq!(reply.take(wire), Ok(Step::End { closes: false }));
        assert_eq!(reply.is_right(5), Ok(true));
    }
}
