//! Contents in every coding that the inspector decodes, through both programs.

use std::io::{self, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use e2e::origin::{After, Request, Wire};
use e2e::{Curl, Inspected, Origin, content, peers};

/// What Python's libraries make of it.
fn coded(coding: &str, content: &[u8]) -> Vec<u8> {
    let script = "import brotli, gzip, sys, zlib, zstandard\n\
        codings = {'br': brotli.compress, 'deflate': zlib.compress,\n\
        'gzip': lambda content: gzip.compress(content, mtime=0),\n\
        'zstd': lambda content: zstandard.ZstdCompressor().compress(content)}\n\
        sys.stdout.buffer.write(codings[sys.argv[1]](sys.stdin.buffer.read()))";
    let mut python = peers::python();
    python.args(["-c", script, coding]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{coding}");
    output.stdout
}

#[test]
fn what_clients_decode_is_asked_for_and_inspected() {
    let inspected = Inspected::start();
    let text = b"A text of which there is so much that it becomes shorter. ".repeat(50);
    let bad = [&text[..], &content::eicar(), &text[..]].concat();
    let codings = ["br", "deflate", "gzip", "zstd"];
    let contents: Vec<_> = codings
        .iter()
        .flat_map(|coding| {
            let bad = coded(coding, &bad);
            assert!(!content::has_eicar(&bad), "{coding}");
            [(format!("/good/{coding}"), coded(coding, &text)), (format!("/bad/{coding}"), bad)]
        })
        .collect();
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let seen = accepted.clone();
    let origin = Origin::https(
        &inspected.identity(),
        move |request: &Request, wire: &mut Wire<'_>| -> io::Result<After> {
            seen.lock().unwrap().push(request.fields["accept-encoding"].clone());
            let Some((target, body)) =
                contents.iter().find(|(target, _)| *target == request.target)
            else {
                return wire.not_found();
            };
            let coding = target.rsplit('/').next().unwrap();
            wire.with_length("200 OK", &[("Content-Encoding", coding)], body)
        },
    );
    let gateway = inspected.proxy();
    let curl = Curl::through(gateway.proxy())
        .trust(&gateway.authority())
        .arg("--header")
        .arg("Accept-Encoding: br, deflate, gzip, zstd, dcb, dcz");
    // Then it is known what the inspector decodes.
    curl.run(&origin.url("/none")).expect_status(404);
    for coding in codings {
        let good = curl.run(&origin.url(&format!("/good/{coding}")));
        good.expect_status(200);
        assert!(good.body == coded(coding, &text), "{coding}");
        curl.run(&origin.url(&format!("/bad/{coding}"))).expect_status(403);
    }
    for accepted in &accepted.lock().unwrap()[1..] {
        assert_eq!(accepted, "br, deflate, gzip, zstd");
    }
}
