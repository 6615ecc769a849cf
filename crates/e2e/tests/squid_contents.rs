//! Contents that hide something from who reads them otherwise than clients do, through Squid: it knows nothing of content
//! codings, so all depends on the inspector.

use std::path::PathBuf;

use e2e::peers::squid::{IcapService, Squid};
use e2e::pki::Authority;
use e2e::{Curl, Inspector, Origin, content, origin, peers};
use tempfile::TempDir;

/// Writes each content into a file of the folder: its number, then its Content-Encoding and whether it is bad are told
/// on a line.
const CONTENTS: &str = r#"
import brotli, sys, zlib, zstandard
folder, bad = sys.argv[1], sys.stdin.buffer.read()
text = b'A text of which there is so much that it becomes shorter. ' * 50
infected = text + bad + text

def deflate(content, form):
    coder = zlib.compressobj(9, zlib.DEFLATED, form)
    return coder.compress(content) + coder.flush()

gzip = lambda content: deflate(content, 31)
raw = lambda content: deflate(content, -15)
zstd = lambda content: zstandard.ZstdCompressor().compress(content)

# The header of zlib is a stored block of 156 bytes to who takes it for raw DEFLATE, and the next one is the last. To
# others a stored block of 65,379 bytes begins there.
stored = bytearray(65379)
harmless = raw(b'harmless')
stored[154:154 + len(harmless)] = harmless
both = b'\x78\x9c\x00\x63\xff\x9c\x00' + stored + raw(bad) + zlib.adler32(stored + bad).to_bytes(4, 'big')
assert zlib.decompress(both) == stored + bad

wrong = bytearray(gzip(infected))
wrong[-6] ^= 1
skippable = b'\x50\x2a\x4d\x18' + len(bad).to_bytes(4, 'little') + bad
contents = [
    ('gzip', gzip(text), False), ('br', brotli.compress(text), False), ('zstd', zstd(text), False),
    ('deflate', zlib.compress(text), False), ('gzip', gzip(bytes(20 << 20)), False),
    ('zstd', skippable + zstd(text), False),
    ('gzip', gzip(infected), True), ('x-gzip', gzip(infected), True), ('br', brotli.compress(infected), True),
    ('zstd', zstd(infected), True), ('deflate', zlib.compress(infected), True), ('deflate', raw(infected), True),
    ('deflate', both, True), ('gzip', gzip(text) + gzip(infected), True),
    ('zstd', zstd(text) + zstd(infected), True), ('gzip', gzip(bytes(20 << 20) + bad), True),
    ('gzip, gzip', gzip(gzip(bytes(3 << 20) + bad)), True), ('br, zstd, gzip', gzip(zstd(brotli.compress(infected))), True),
    ('gzip', bytes(wrong), True), ('gzip', gzip(text) + b'trailing' + bad, True), ('gzip', gzip(infected)[:-8], True),
    ('br', gzip(infected), True), ('compress', infected, True), ('gzip, gzip, gzip, gzip', gzip(infected), True),
    ('identity, gzip', gzip(infected), True),
]
for number, (coding, body, is_bad) in enumerate(contents):
    open(f'{folder}/{number}', 'wb').write(body)
    print(number, int(is_bad), coding)
"#;

struct Content {
    number: usize,
    is_bad: bool,
    coding: String,
    file: PathBuf,
    body: Vec<u8>,
}

fn contents(folder: &TempDir) -> Vec<Content> {
    let bad = folder.path().join("bad");
    std::fs::write(&bad, content::eicar()).unwrap();
    let mut python = peers::python();
    python.args(["-c", CONTENTS]).arg(folder.path()).stdin(std::fs::File::open(bad).unwrap());
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (number, is_bad, coding) = (word(), word() == "1", word().to_owned());
        let file = folder.path().join(number);
        let body = std::fs::read(&file).unwrap();
        Content { number: number.parse().unwrap(), is_bad, coding, file, body }
    };
    lines.lines().map(parse).collect()
}

#[test]
fn no_content_passes_squid_and_the_inspector_in_silence() {
    let folder = TempDir::new().unwrap();
    let contents = contents(&folder);
    let authority = Authority::new("Origin");
    let trusted = authority.write(folder.path());
    let served: Vec<_> =
        contents.iter().map(|content| (content.coding.clone(), content.body.clone())).collect();
    let origin = Origin::https(&authority.leaf(&origin::NAMES), move |request, wire| {
        if request.method == "POST" {
            return wire.ok("text/plain", b"uploaded");
        }
        let (coding, body) = &served[request.target[1..].parse::<usize>().unwrap()];
        wire.with_length("200 OK", &[("Content-Encoding", coding)], body)
    });
    let inspector = Inspector::with_test_rules();
    let url = inspector.url();
    let squid = Squid::start(&IcapService { url: &url, preview: true }, &trusted);
    let curl = || Curl::through(squid.proxy()).trust(&squid.authority());
    for content in &contents {
        let Content { number, is_bad, coding, file, body } = content;
        let about = format!("{number}: {coding}");
        eprintln!("{about}");
        let fetched = curl().run(&origin.url(&format!("/{number}")));
        let field = format!("Content-Encoding: {coding}");
        let uploaded = curl()
            .post(file)
            .arg("--header")
            .arg(&field)
            .run(&origin.url(&format!("/up/{number}")));
        let target = format!("/up/{number}");
        let arrived = origin.requests().iter().any(|request| request.target == target);
        if *is_bad {
            for answer in [&fetched, &uploaded] {
                assert_eq!(answer.status, 403, "{about}");
                assert!(!content::has_eicar(&answer.body), "{about}");
            }
            assert!(!arrived, "{about}");
        } else {
            fetched.expect_body(body);
            uploaded.expect_body(b"uploaded");
            assert!(arrived, "{about}");
        }
    }
}
