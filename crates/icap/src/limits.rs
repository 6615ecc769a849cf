//! Upper bounds on what a peer may send.

/// Upper bounds on everything a peer chooses. Compared before memory is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an ICAP head, its final empty line included. Default 64 KiB.
    pub max_head: usize,
    /// Header fields of an ICAP head. Default 200.
    pub max_fields: usize,
    /// Bytes of the URI of a request line. Default 8 KiB.
    pub max_uri: usize,
    /// Bytes of all encapsulated HTTP heads of one message together. Default 256 KiB.
    pub max_encapsulated: usize,
    /// Bytes of a chunk size line with its extensions. Default 4 KiB.
    pub max_chunk_line: usize,
    /// Bytes of the trailers of a body. Default 16 KiB.
    pub max_trailers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head: 64 << 10,
            max_fields: 200,
            max_uri: 8 << 10,
            max_encapsulated: 256 << 10,
            max_chunk_line: 4 << 10,
            max_trailers: 16 << 10,
        }
    }
}
