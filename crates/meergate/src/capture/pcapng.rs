//! Blocks of pcapng files (draft-ietf-opsawg-pcapng), little-endian.

use std::time::{SystemTime, UNIX_EPOCH};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// LINKTYPE_RAW: packets begin with their IPv4 or IPv6 header.
const RAW_IP: u16 = 101;
const SNAP_LENGTH: u32 = 65_535;
const OPTION_COMMENT: u16 = 1;
const OPTION_APPLICATION: u16 = 4;

/// What each file begins with: a section with one interface, whose times are in microseconds.
pub(super) fn section() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
    body.extend_from_slice(&1u16.to_le_bytes());
    body.extend_from_slice(&0u16.to_le_bytes());
    // The section's length is not known beforehand.
    body.extend_from_slice(&(-1i64).to_le_bytes());
    option(&mut body, OPTION_APPLICATION, b"meergate");
    let mut file = block(SECTION_HEADER, &body);
    body.clear();
    body.extend_from_slice(&RAW_IP.to_le_bytes());
    body.extend_from_slice(&0u16.to_le_bytes());
    body.extend_from_slice(&SNAP_LENGTH.to_le_bytes());
    file.extend(block(INTERFACE_DESCRIPTION, &body));
    file
}

/// One packet, of `parts` joined.
pub(super) fn packet(time: SystemTime, parts: [&[u8]; 2], comment: Option<&str>) -> Vec<u8> {
    let micros = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros()) as u64;
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut body = Vec::with_capacity(length + 64);
    for value in [0, (micros >> 32) as u32, micros as u32, length as u32, length as u32] {
        body.extend_from_slice(&value.to_le_bytes());
    }
    for part in parts {
        body.extend_from_slice(part);
    }
    pad(&mut body);
    if let Some(comment) = comment {
        option(&mut body, OPTION_COMMENT, comment.as_bytes());
    }
    block(ENHANCED_PACKET, &body)
}

/// The only option of a block, and the end of its options.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(1000)];
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
    body.extend_from_slice(&[0; 4]);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes(), &length, body, &length].concat()
}
