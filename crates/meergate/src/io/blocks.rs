//! Memory for large bodies, used again instead of given back.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::BytesMut;

/// Bytes of a block, and bytes of a body that move in one go: so many that system calls do not
/// dominate, and so few that, as four TLS records, they fit one segment of loopback TCP (65,483
/// bytes). With 64 KB each write made a second segment of a few bytes, which cost as much as the
/// first.
pub const BLOCK: usize = 65_280;
/// Blocks that a thread keeps: 8 MB. The next ones are malloc's.
const KEPT: usize = 128;
/// How many of those are looked at for one that is free.
const LOOKS: usize = 4;

thread_local! {
    // Bodies come and go by the megabyte. malloc would give their memory back to the system, and
    // get it again page by page.
    static BLOCKS: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
}

/// An empty buffer with a capacity of [`BLOCK`] bytes. When it and all that was split off it are
/// gone, its memory is used again.
pub fn block() -> BytesMut {
    BLOCKS.with_borrow_mut(|kept| {
        for _ in 0..LOOKS {
            let Some(mut handle) = kept.pop_front() else { break };
            let block = handle.try_reclaim(BLOCK).then(|| handle.split_off(0));
            kept.push_back(handle);
            if let Some(block) = block {
                return block;
            }
        }
        // What stays in `handle` has no capacity, but shares the memory, and learns when nobody else
        // does any more.
        let mut handle = BytesMut::with_capacity(BLOCK);
        let block = handle.split_off(0);
        if kept.len() < KEPT {
            kept.push_back(handle);
        }
        block
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_used_again_when_all_of_it_is_gone() {
        let mut first = block();
        assert_eq!((first.len(), first.capacity()), (0, BLOCK));
        let place = first.as_ptr();
        first.extend_from_slice(b"content");
        let content = first.split().freeze();
        drop(first);
        let second = block();
        assert_ne!(second.as_ptr(), place, "`content` is still there");
        drop(content);
        let third = block();
        assert_eq!((third.as_ptr(), third.len(), third.capacity()), (place, 0, BLOCK));
    }

    #[test]
    fn no_more_are_kept_than_said() {
        let blocks: Vec<BytesMut> = (0..2 * KEPT).map(|_| block()).collect();
        assert_eq!(BLOCKS.with_borrow(VecDeque::len), KEPT);
        drop(blocks);
        let blocks: Vec<BytesMut> = (0..2 * KEPT).map(|_| block()).collect();
        assert_eq!(BLOCKS.with_borrow(VecDeque::len), KEPT);
        assert!(blocks.iter().all(|block| block.is_empty() && block.capacity() >= BLOCK));
    }
}
