//! ClientHellos as clients write them, and as they must not be.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

fn hello_of_rustls(name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let mut config =
        ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of at most `size` bytes.
fn resplit(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut split = Vec::new();
    for piece in bytes[5..].chunks(size) {
        split.extend_from_slice(&[22, 3, 1]);
        split.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        split.extend_from_slice(piece);
    }
    split
}

#[test]
fn every_cut_needs_more_and_the_whole_is_read() {
    let whole = hello_of_rustls("Www.Example.ORG", &[b"h2", b"http/1.1"]);
    for bytes in [whole.clone(), resplit(&whole, 7), resplit(&whole, 1)] {
        for cut in 0..bytes.len() {
            assert_eq!(ClientHello::read(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let hello = ClientHello::read(&bytes).unwrap().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("www.example.org"));
        assert_eq!(hello.alpn.unwrap(), [Box::from(&b"h2"[..]), Box::from(&b"http/1.1"[..])]);
        assert!(hello.modern);
    }
}

#[test]
fn an_address_is_no_server_name() {
    let hello = ClientHello::read(&hello_of_rustls("192.0.2.1", &[])).unwrap().unwrap();
    assert_eq!(hello.server_name, None);
    assert_eq!(hello.alpn, None);
}

#[test]
fn no_flipped_byte_makes_it_panic() {
    let whole = hello_of_rustls("www.example.org", &[b"h2"]);
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let _ = ClientHello::read(&bytes);
        }
    }
}

/// A hello with the given extensions block.
fn hello_with(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (kind, body) in extensions {
        block.extend_from_slice(&kind.to_be_bytes());
        block.extend_from_slice(&(body.len() as u16).to_be_bytes());
        block.extend_from_slice(body);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&(block.len() as u16).to_be_bytes());
    body.extend_from_slice(&block);
    let mut message = vec![1, 0];
    message.extend_from_slice(&(body.len() as u16).to_be_bytes());
    message.extend_from_slice(&body);
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&(message.len() as u16).to_be_bytes());
    record.extend_from_slice(&message);
    record
}

#[test]
fn hostile_hellos_are_refused() {
    let name = |name: &[u8]| {
        let mut body = ((name.len() + 3) as u16).to_be_bytes().to_vec();
        body.push(0);
        body.extend_from_slice(&(name.len() as u16).to_be_bytes());
        body.extend_from_slice(name);
        body
    };
    assert!(ClientHello::read(&hello_with(&[(0, &name(b"a.example"))])).unwrap().is_some());
    for (what, extensions) in [
        ("twice", vec![(16, &[0u8, 2, 1, b'x'][..]), (16, &[0, 2, 1, b'x'])]),
        ("empty name", vec![(0, &name(b"")[..])]),
        ("nul in name", vec![(0, &name(b"a\0.example"))]),
        ("space in name", vec![(0, &name(b"a b"))]),
        ("name not utf-8", vec![(0, &name(b"\xff\xfe"))]),
        ("list past the end", vec![(0, &[0, 9, 0, 0, 1, b'a'])]),
        ("bytes after the list", vec![(16, &[0, 2, 1, b'x', 9])]),
        ("empty protocol", vec![(16, &[0, 1, 0])]),
        ("odd versions", vec![(43, &[3, 3, 4, 3])]),
        ("bytes after the versions", vec![(43, &[2, 3, 4, 3])]),
        ("odd signature algorithms", vec![(13, &[0, 3, 4, 3, 4])]),
        ("no signature algorithm", vec![(13, &[0, 0])]),
        ("bytes after the signature algorithms", vec![(13, &[0, 2, 4, 3, 4])]),
    ] {
        assert!(ClientHello::read(&hello_with(&extensions)).is_err(), "{what}");
    }
    for (what, bytes) in [
        ("application data", &[23, 3, 3, 0, 1, 0][..]),
        ("ssl 2", &[0x80, 0x2e, 1]),
        ("empty record", &[22, 3, 1, 0, 0]),
        ("record too long", &[22, 3, 1, 0x40, 1]),
        ("server hello", &[22, 3, 1, 0, 5, 2]),
        ("hello too long", &[22, 3, 1, 0, 5, 1, 1, 0, 0, 0]),
        ("two messages", &[22, 3, 1, 0, 6, 1, 0, 0, 0, 1, 0]),
    ] {
        assert!(ClientHello::read(bytes).is_err(), "{what}");
    }
}

#[test]
fn a_second_message_in_the_record_is_refused_before_it_has_come() {
    let mut hello = hello_with(&[]);
    hello[4] += 1;
    assert!(ClientHello::read(&hello).is_err());
    // In a record of its own, what follows is the handshake's business.
    let mut hello = hello_with(&[]);
    hello.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
    assert!(ClientHello::read(&hello).unwrap().is_some());
}

#[test]
fn only_old_versions_are_seen() {
    let old = hello_with(&[(43, &[4, 3, 2, 3, 1])]);
    assert!(!ClientHello::read(&old).unwrap().unwrap().modern);
    let new = hello_with(&[(43, &[4, 3, 4, 3, 3])]);
    assert!(ClientHello::read(&new).unwrap().unwrap().modern);
}

#[test]
fn those_that_take_rsa_alone_are_told_from_the_others() {
    const TLS_1_2: [u16; 1] = [0x0303];
    const BOTH: [u16; 2] = [0x0304, 0x0303];
    for (expected, versions, suites, schemes) in [
        // No ECDSA among the suites, or among the signatures, of TLS 1.2.
        (true, &TLS_1_2[..], &[0xc02f][..], &[0x0403, 0x0401][..]),
        (true, &[], &[0xc030, 0xc02b], &[0x0601]),
        (true, &[], &[0xcca8, 0xc009], &[0x0804, 0x0403]),
        (false, &TLS_1_2, &[0xc02f, 0xc02b], &[0x0401, 0x0403]),
        // TLS 1.3 has one suite for all keys.
        (false, &BOTH, &[0x1301, 0xc02f], &[0x0403, 0x0804]),
        (true, &BOTH, &[0x1301, 0xc02b], &[0x0804, 0x0401]),
        // A larger curve is none of ours.
        (true, &BOTH, &[0x1301], &[0x0503, 0x0805]),
        // Nothing that can be agreed on with RSA either.
        (false, &TLS_1_2, &[0xc02f], &[0x0403]),
        (false, &TLS_1_2, &[0xc02f], &[0x0201, 0x0203]),
        (false, &TLS_1_2, &[0x009c, 0x002f], &[0x0401]),
        (false, &BOTH, &[0x1301], &[0x0401]),
        (false, &[], &[0xc02f], &[]),
    ] {
        let found = is_rsa_only(versions, suites, schemes);
        assert_eq!(found, expected, "{versions:x?} {suites:x?} {schemes:x?}");
    }
    let usual = ClientHello::read(&hello_of_rustls("a.example", &[])).unwrap().unwrap();
    assert!(!usual.rsa_only);
    let hello = hello_with(&[(13, &[0, 4, 8, 4, 4, 1]), (43, &[4, 3, 4, 3, 3])]);
    assert!(ClientHello::read(&hello).unwrap().unwrap().rsa_only);
}
