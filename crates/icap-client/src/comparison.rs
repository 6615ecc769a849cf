//! Whether what a service gave back is what it got: some answer with the content they were sent.

use std::collections::VecDeque;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use crate::{Body, BodyError, BodySource, Frame};

/// Bytes that are compared at once. Less than so many of a body that was cut off may be others.
const BLOCK: usize = 16 * 1024;

/// Blocks that a service may have got and not given back, 1 GiB; beyond, it counts as other content.
const MOST_BLOCKS: usize = 65_536;

/// Two contents on their way, compared by digests with a secret key.
#[derive(Debug, Default)]
pub struct Comparison(Mutex<State>);

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// What the service got.
    Given,
    /// What it made of that.
    Returned,
}

#[derive(Debug, Default)]
struct State {
    keys: RandomState,
    given: Content,
    returned: Content,
    /// Of what the service got and has not given back.
    ahead: VecDeque<u64>,
    /// Of what it gave back before it had got so much.
    behind: VecDeque<u64>,
    differs: bool,
    /// Digests of the trailer fields on both sides.
    given_trailers: Option<u64>,
    returned_trailers: Option<u64>,
}

#[derive(Debug, Default)]
struct Content {
    block: Option<DefaultHasher>,
    filled: usize,
    is_over: bool,
}

impl Comparison {
    /// Whether the content that was given back is another one, as far as that came.
    pub fn differs(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = state.returned.is_over;
        // Lost ones reach nobody.
        let has_other_trailers =
            state.returned_trailers.is_some() && state.returned_trailers != state.given_trailers;
        state.differs
            || has_other_trailers
            || is_whole && (!state.given.is_over || !state.ahead.is_empty())
            || !state.behind.is_empty()
    }

    pub(crate) fn add(&self, side: Side, mut data: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !data.is_empty() && !state.differs {
            let State { keys, given, returned, .. } = &mut *state;
            let content = if side == Side::Given { given } else { returned };
            let (now, later) = data.split_at(data.len().min(BLOCK - content.filled));
            content.block.get_or_insert_with(|| keys.build_hasher()).write(now);
            content.filled += now.len();
            data = later;
            if content.filled == BLOCK {
                state.close(side);
            }
        }
    }

    pub(crate) fn add_trailers(&self, side: Side, trailers: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = Some(state.keys.hash_one(trailers));
        match side {
            Side::Given => state.given_trailers = digest,
            Side::Returned => state.returned_trailers = digest,
        }
    }

    pub(crate) fn end(&self, side: Side) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.close(side);
        state.of(side).is_over = true;
    }
}

impl State {
    fn of(&mut self, side: Side) -> &mut Content {
        match side {
            Side::Given => &mut self.given,
            Side::Returned => &mut self.returned,
        }
    }

    /// A block is complete.
    fn close(&mut self, side: Side) {
        let content = self.of(side);
        content.filled = 0;
        let Some(block) = content.block.take() else { return };
        let digest = block.finish();
        let (mine, others) = match side {
            Side::Given => (&mut self.ahead, &mut self.behind),
            Side::Returned => (&mut self.behind, &mut self.ahead),
        };
        match others.pop_front() {
            Some(other) => self.differs |= other != digest,
            None => mine.push_back(digest),
        }
        self.differs |= self.ahead.len() + self.behind.len() > MOST_BLOCKS;
    }
}

/// A body that is compared as it goes by.
pub(crate) struct Compared {
    pub(crate) inner: Body,
    /// Bytes that do not count.
    pub(crate) skip: u64,
    pub(crate) side: Side,
    pub(crate) comparison: Arc<Comparison>,
}

impl BodySource for Compared {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(Frame::Data(data))) => {
                let skipped = self.skip.min(data.len() as u64);
                self.skip -= skipped;
                // At most the length of the slice.
                self.comparison.add(self.side, &data[skipped as usize..]);
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                self.comparison.add_trailers(self.side, trailers);
                self.comparison.end(self.side);
            }
            None => self.comparison.end(self.side),
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differs(given: &[&[u8]], returned: &[&[u8]], ends: bool) -> bool {
        let comparison = Comparison::default();
        for turn in 0..given.len().max(returned.len()) {
            let one = |side, all: &[&[u8]]| {
                if let Some(piece) = all.get(turn) {
                    comparison.add(side, piece);
                }
            };
            one(Side::Given, given);
            one(Side::Returned, returned);
        }
        comparison.end(Side::Given);
        if ends {
            comparison.end(Side::Returned);
        }
        comparison.differs()
    }

    #[test]
    fn contents_are_compared_however_they_come_in_pieces() {
        let long = vec![7; 3 * BLOCK + 5];
        let (begin, rest) = long.split_at(BLOCK + 100);
        assert!(!differs(&[&long], &[begin, rest], true));
        assert!(!differs(&[begin, rest], &[&long], true));
        assert!(!differs(&[b"a", b"bc"], &[b"ab", b"c"], true));
        assert!(!differs(&[], &[], true));
        let mut other = long.clone();
        other[2 * BLOCK] = 8;
        assert!(differs(&[&long], &[&other], true));
        assert!(differs(&[&long], &[&other], false));
        assert!(differs(&[&long], &[begin], true));
        assert!(differs(&[begin], &[&long], true));
        assert!(differs(&[b"a"], &[b"b"], true));
        assert!(differs(&[b"a"], &[], true));
        assert!(differs(&[], &[b"a"], true));
        let trailers = |given: &[u8], returned: &[u8]| {
            let comparison = Comparison::default();
            for (side, trailers) in [(Side::Given, given), (Side::Returned, returned)] {
                if !trailers.is_empty() {
                    comparison.add_trailers(side, trailers);
                }
                comparison.end(side);
            }
            comparison.differs()
        };
        assert!(!trailers(b"A: 1\r\n", b"A: 1\r\n") && !trailers(b"A: 1\r\n", b""));
        assert!(trailers(b"A: 1\r\n", b"A: 2\r\n") && trailers(b"", b"A: 1\r\n"));
        // Cut off.
        assert!(!differs(&[&long], &[begin], false));
    }
}
