//! A signature anywhere in a stream that is cut anyhow: its last byte is never delivered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::sync_channel;
use std::thread;

use e2e::content;
use e2e::process::DEADLINE;

use super::{BAD, Setup, read_all, serve};

/// Numbers that only depend on the seed.
struct Random(u64);

impl Random {
    /// One below `end`.
    fn below(&mut self, end: usize) -> usize {
        // xorshift64* (Marsaglia, Vigna).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    /// Sends `bytes` in pieces of any size, as far as they are taken.
    fn send(&mut self, socket: &mut TcpStream, bytes: &[u8]) {
        let most = [1, 3, 40, 1_460, 20_000][self.below(5)];
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((1 + self.below(most)).min(rest.len()));
            if socket.write_all(piece).is_err() {
                return;
            }
            rest = more;
        }
    }
}

/// Short for CI; `MEERGATE_E2E_CUTS=10000` is as many as before a release.
#[test]
fn no_cut_gets_a_signature_through() {
    let cuts: usize = std::env::var("MEERGATE_E2E_CUTS").map_or(300, |n| n.parse().unwrap());
    let (tell, told) = sync_channel(100);
    // The first byte says who sends the rest.
    let addr = serve(move |mut socket| {
        let mut seed = [0; 9];
        if socket.read_exact(&mut seed).is_err() {
            // It was read together with the signature, and so was not passed either.
            tell.send((0, Vec::new(), false)).unwrap();
            return;
        }
        let number = u64::from_be_bytes(*seed.last_chunk().unwrap());
        if seed[0] == b'<' {
            let (bytes, _) = planted(number);
            Random(number).send(&mut socket, &bytes);
        }
        let (got, in_order) = read_all(&mut socket);
        tell.send((number, got, in_order)).unwrap();
    });
    let setup = Setup::target(addr.port());
    let mut random = Random(0x6d65_6572);
    for n in 0..cuts {
        let number = 1 + (random.below(1 << 30) as u64) + ((n as u64) << 32);
        let (bytes, at) = planted(number);
        let from_server = n % 2 == 0;
        let mut client = setup.connect();
        let mut writing = client.try_clone().unwrap();
        let first = if from_server { b'<' } else { b'>' };
        let writer = thread::spawn(move || {
            let _ = writing.write_all(&[&[first], &number.to_be_bytes()[..]].concat());
            if !from_server {
                Random(number).send(&mut writing, &planted(number).0);
            }
        });
        let (got, in_order) = read_all(&mut client);
        writer.join().unwrap();
        let (of, at_server, _) = told.recv_timeout(DEADLINE).unwrap();
        assert!(of == number || (of == 0 && !from_server));
        let got = if from_server { got } else { at_server };
        let left_out = format!("cut {n}, number {number}: {} of {at}", got.len());
        assert!(!in_order || !from_server, "{left_out}: not a reset");
        assert!(got.len() < at + BAD.len(), "{left_out}: all of it was delivered");
        assert!(bytes.starts_with(&got), "{left_out}: not what was sent");
    }
}

/// Bytes with the signature in them, and where.
fn planted(number: u64) -> (Vec<u8>, usize) {
    let mut random = Random(number);
    let most = [50, 3_000, 70_000, 300_000][random.below(4)];
    let at = random.below(most);
    let mut bytes = content::noise(number, at);
    bytes.extend_from_slice(BAD);
    bytes.extend_from_slice(&content::noise(!number, random.below(most)));
    (bytes, at)
}
