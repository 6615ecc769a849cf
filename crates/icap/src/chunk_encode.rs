//! The lines around the chunks of a body that is sent.

use bytes::BufMut;

use crate::Headers;

/// The longest chunk header that [`chunk_header`] writes, in bytes.
pub const CHUNK_HEADER_MAX: usize = 18;

/// The last chunk of a body or of an unfinished preview, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The last chunk of a preview that held the whole body (RFC 3507 section 4.5).
pub const LAST_CHUNK_IEOF: &[u8] = b"0; ieof\r\n\r\n";

/// Writes the line in front of a chunk of `len` bytes and returns it. After the data comes CRLF.
/// A chunk of length 0 would end the body: never announce one.
pub fn chunk_header(len: u64, line: &mut [u8; CHUNK_HEADER_MAX]) -> &[u8] {
    let digits = (64 - len.leading_zeros()).div_ceil(4).max(1) as usize;
    for (at, digit) in line[..digits].iter_mut().enumerate() {
        let shift = (digits - 1 - at) * 4;
        *digit = b"0123456789abcdef"[(len >> shift) as usize & 0xf];
    }
    line[digits] = b'\r';
    line[digits + 1] = b'\n';
    &line[..digits + 2]
}

/// Writes `data` as one chunk; nothing if it is empty, for that would end the body.
pub fn encode_chunk(out: &mut impl BufMut, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    out.put_slice(chunk_header(data.len() as u64, &mut [0; CHUNK_HEADER_MAX]));
    out.put_slice(data);
    out.put_slice(b"\r\n");
}

/// Writes the last chunk with trailers.
pub fn encode_last_chunk(out: &mut impl BufMut, trailers: &Headers) {
    out.put_slice(b"0\r\n");
    trailers.encode(out);
    out.put_slice(b"\r\n");
}

/// Writes the last chunk of a 206 answer: the rest is the original body from byte `offset` on,
/// the preview counted (draft-icap-ext-partial-content-07).
pub fn encode_use_original_body(out: &mut impl BufMut, offset: u64) {
    out.put_slice(b"0; use-original-body=");
    put_decimal(out, offset);
    out.put_slice(b"\r\n\r\n");
}

pub(crate) fn put_decimal(out: &mut impl BufMut, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}
