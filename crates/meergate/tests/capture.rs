//! Captures of decrypted traffic, read as a reader of pcapng files would.

// Helpers panic like the tests that they serve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use support::h2::{self, get, handler, soon};
use support::{Gateway, Origin, wait_for};

/// One packet: who sent it to whom, TCP's flags, its data.
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    flags: u8,
    data: Vec<u8>,
}

/// All whole packets of the files in `folder`.
fn packets(folder: &Path) -> Vec<Packet> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut packets = Vec::new();
    for file in files {
        let bytes = fs::read(file).unwrap();
        let mut rest = &bytes[..];
        let word = |at: usize, bytes: &[u8]| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
        };
        while rest.len() >= 12 && word(4, rest) <= rest.len() {
            let (block, after) = rest.split_at(word(4, rest));
            assert_eq!(word(4, block), word(block.len() - 4, block), "both lengths of a block");
            if word(0, block) == 6 {
                packets.push(packet(&block[28..28 + word(20, block)]));
            }
            rest = after;
        }
    }
    packets
}

fn packet(ip: &[u8]) -> Packet {
    assert_eq!(ip[0], 0x45, "IPv4 without options");
    assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), ip.len());
    let address = |at: usize| {
        let octets: [u8; 4] = ip[at..at + 4].try_into().unwrap();
        IpAddr::from(Ipv4Addr::from(octets))
    };
    let tcp = &ip[20..];
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    Packet {
        from: SocketAddr::new(address(12), port(0)),
        to: SocketAddr::new(address(16), port(2)),
        sequence: u32::from_be_bytes(tcp[4..8].try_into().unwrap()),
        flags: tcp[13],
        data: tcp[usize::from(tcp[12] >> 4) * 4..].to_vec(),
    }
}

/// What `from` said to `to`, once it has ended; the sequence numbers have no gap.
fn said(folder: &Path, from: Option<SocketAddr>, to: Option<SocketAddr>) -> Vec<u8> {
    wait_for("the end of a captured stream", || {
        let mut next = None;
        let mut all = Vec::new();
        for packet in packets(folder) {
            if from.is_some_and(|a| a != packet.from) || to.is_some_and(|a| a != packet.to) {
                continue;
            }
            let syn = packet.flags & 2 != 0;
            assert_eq!(packet.sequence, *next.get_or_insert(packet.sequence));
            next = Some(packet.sequence + packet.data.len() as u32 + u32::from(syn));
            all.extend_from_slice(&packet.data);
            if packet.flags & 1 != 0 {
                return Some(all);
            }
        }
        None
    })
}

#[test]
fn plain_requests_are_captured_as_the_origin_sees_them() {
    let content = "x".repeat(100_000);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{content}");
    let (chosen, other) = (Origin::answering(answer.clone()), Origin::answering(answer.clone()));
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&format!(
        "[capture]\nfolder = {:?}\n[[rule]]\nport = [{}]\ncapture = true\n",
        folder.path(),
        chosen.address.port()
    ));
    for origin in [&chosen, &other] {
        let host = origin.address;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            origin.url("/a?b")
        );
        assert!(gateway.ask(request.as_bytes()).ends_with(b"xxx"));
    }
    let server = chosen.address;
    assert_eq!(said(folder.path(), None, Some(server)), chosen.seen().concat());
    assert_eq!(said(folder.path(), Some(server), None), answer.into_bytes());
    let packets = packets(folder.path());
    assert!(packets.iter().all(|p| p.from != other.address && p.to != other.address));
    // The client's real address, which the record has too.
    let record = &gateway.transactions(1)[0];
    assert_eq!(record["client"], packets[0].from.to_string());
    assert_eq!(gateway.metric("meergate_capture_packets_lost_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn intercepted_tls_is_captured_in_the_clear() {
    let origin = h2::Origin::start(
        1,
        handler(|_, mut respond| async move {
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            h2::send(&mut stream, "in the clear".into(), true).await;
        }),
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&format!(
        "{}[capture]\nfolder = {:?}\n[[rule]]\ncapture = true\n",
        origin.settings(dir.path()),
        folder.path()
    ));
    let client = h2::connect(&gateway, &origin).await;
    soon("the answer", get(&client, &origin, "/")).await.unwrap();
    drop(client);
    let server = origin.address;
    let asked = said(folder.path(), None, Some(server));
    assert!(asked.starts_with(b"PRI * HTTP/2.0\r\n"), "HTTP/2 as it is");
    let answered = said(folder.path(), Some(server), None);
    assert!(answered.windows(12).any(|w| w == b"in the clear"));
}

#[test]
fn rules_that_capture_need_a_place_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.toml");
    fs::write(&file, "[[rule]]\ncapture = true\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_meergate"))
        .args(["check", "--config"])
        .arg(&file)
        .arg("--explain")
        .arg("http://a.example/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("capture.folder is not set"), "{said}");
}
