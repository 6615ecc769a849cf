//! Parts of files through both programs: downloads that are resumed and divided come out as they
//! should, and nobody puts a signature together from parts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use e2e::origin::{After, Request, Wire};
use e2e::peers::nginx::Nginx;
use e2e::pki::Authority;
use e2e::{Curl, Gateway, Inspected, Inspector, Origin, chromium, content, origin, peers};
use tempfile::TempDir;

/// The gateway's default on both sides.
const OVERLAP: usize = 64 * 1024;

/// Runs a client that must succeed.
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn downloads_are_resumed_and_divided() {
    let inspected = Inspected::start();
    let file = content::noise(1, 6_000_000);
    for nginx in [Nginx::start(&inspected.identity()), Nginx::http2(&inspected.identity())] {
        nginx.put("file", &file);
        let gateway = inspected.proxy();
        let (proxy, authority) = (gateway.proxy(), gateway.authority().display().to_string());
        let folder = TempDir::new().unwrap();
        let url = nginx.url("/file");
        let target = folder.path().join("file");
        let begin = |length: usize| fs::write(&target, &file[..length]).unwrap();
        let compare = |what: &str| {
            assert!(fs::read(&target).unwrap() == file, "{what}");
            fs::remove_file(&target).unwrap();
        };

        for version in ["--http1.1", "--http2"] {
            for had in [1, 100_000, 5_999_999] {
                begin(had);
                let mut curl = peers::client("curl");
                curl.args(["--disable", "-sS", "--fail", version, "-C", "-", "-o"]).arg(&target);
                run(curl.args([
                    "--cacert",
                    &authority,
                    "--proxy",
                    &format!("http://{proxy}"),
                    &url,
                ]));
                compare("curl -C -");
            }
        }
        let curl = Curl::through(proxy).trust(Path::new(&authority));
        for (range, expected) in [
            ("0-0", &file[..1]),
            ("1000000-2999999", &file[1_000_000..3_000_000]),
            ("5999990-", &file[5_999_990..]),
            ("-70000", &file[5_930_000..]),
        ] {
            let fetched = curl.clone().arg("--range").arg(range).run(&url);
            fetched.expect_status(206);
            assert!(fetched.body == expected, "{range}");
        }
        curl.clone().arg("--range").arg("6000000-").run(&url).expect_status(416);
        let several = curl.clone().arg("--range").arg("0-9,3000000-3000009").run(&url);
        several.expect_status(206);
        let found = |part: &[u8]| several.body.windows(part.len()).any(|w| w == part);
        assert!(found(&file[..10]) && found(&file[3_000_000..3_000_010]));
        assert!(several.body.len() < 500, "{}", several.body.len());

        let through = format!("https_proxy=http://{proxy}");
        begin(2_000_000);
        let mut wget = peers::client("wget");
        wget.args(["--no-config", "--no-hsts", "-q", "-c", "-e", &through, "-O"]).arg(&target);
        run(wget.args(["--ca-certificate", &authority, &url]));
        compare("wget -c");
        let mut aria2c = peers::client("aria2c");
        aria2c
            .args(["--no-conf", "-q", "-x4", "-s4", "-k1M", "-o", "file", "-d"])
            .arg(folder.path());
        aria2c.arg(format!("--ca-certificate={authority}"));
        run(aria2c.arg(format!("--all-proxy=http://{proxy}")).arg(&url));
        compare("aria2c -x4");
    }
}

/// What the origin is asked for is what clients ask for, and the overlap.
#[test]
fn origins_send_the_parts_and_the_overlap() {
    let inspected = Inspected::start();
    let file = Arc::new(content::noise(2, 3_000_000));
    let sent = Arc::new(Mutex::new(0));
    let (of_handler, counter) = (file.clone(), sent.clone());
    let handler = move |request: &Request, wire: &mut Wire<'_>| -> io::Result<After> {
        let range = request.fields["range"].strip_prefix("bytes=").unwrap().to_owned();
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let part = &of_handler[first..=last.min(of_handler.len() - 1)];
        *counter.lock().unwrap() += part.len();
        let said = format!("bytes {first}-{}/{}", first + part.len() - 1, of_handler.len());
        wire.with_length("206 Partial Content", &[("Content-Range", &said)], part)
    };
    let origin = Origin::https(&inspected.identity(), handler);
    let gateway = inspected.proxy();
    let curl = Curl::through(gateway.proxy()).trust(&gateway.authority());
    let (mut asked, mut count) = (0, 0);
    for (first, last) in [(0, 999_999), (1_000_000, 1_000_000), (1_000_001, 2_999_999)] {
        let fetched =
            curl.clone().arg("--range").arg(&format!("{first}-{last}")).run(&origin.url("/"));
        fetched.expect_status(206);
        assert!(fetched.body == file[first..=last]);
        asked += last - first + 1;
        count += 1;
    }
    let sent = *sent.lock().unwrap();
    assert!(sent > asked && sent <= asked + count * 2 * OVERLAP, "{sent} for {asked}");
}

/// The inspector is told that clients get less than it is shown; of a signed range that is not so.
#[test]
fn the_inspector_knows_parts_that_overlap() {
    let folder = TempDir::new().unwrap();
    let settings = folder.path().join("inspector.toml");
    fs::write(&settings, "[content]\nparts = \"block\"\n").unwrap();
    let rules = e2e::programs::test_rules().display().to_string();
    let settings = settings.display().to_string();
    let inspector = Inspector::start(["--config", &settings, "--rules", &rules]);
    let authority = Authority::new("Origin");
    authority.write(folder.path());
    let trusted = folder.path().join("authority.pem").display().to_string();
    let nginx = Nginx::start(&authority.leaf(&origin::NAMES));
    let file = content::noise(4, 500_000);
    nginx.put("file", &file);
    let gateway = Gateway::start(["--icap", &inspector.url(), "--upstream-ca", &trusted]);
    let curl = Curl::through(gateway.proxy()).trust(&gateway.authority()).arg("--range");
    let part = curl.clone().arg("200000-299999").run(&nginx.url("/file"));
    part.expect_status(206);
    assert!(part.body == file[200_000..300_000]);
    let several = curl.clone().arg("0-9,200000-200009").run(&nginx.url("/file"));
    several.expect_status(206);
    let signature = "Signature-Input: a=(\"range\");created=1";
    curl.arg("0-9").arg("--header").arg(signature).run(&nginx.url("/file")).expect_status(403);
}

/// Signatures of several lengths at many places, and parts in any order: whoever asks never holds
/// all bytes of one. `MEERGATE_E2E_PARTS` says how many files (6 by default), of 50 MB if it is set.
#[test]
fn nobody_holds_a_whole_signature_whatever_parts_are_asked_for() {
    // Of longer ones the engine may lose one end, in whole downloads as well (docs/limits.md).
    nobody_holds_a_whole_signature(&[1, 68, 250, 1_024, 1_500, 4_000], "");
}

/// As docs/limits.md says, for signatures as long as the overlap.
#[test]
fn nobody_holds_a_whole_long_signature_where_the_engine_looks_far_back() {
    let key = "app-layer.protocols.http.libhtp.default-config.response-body-inspect-window";
    let settings = format!("[suricata]\n\"{key}\" = \"128kb\"\n");
    nobody_holds_a_whole_signature(&[12_000, 30_000, OVERLAP], &settings);
}

fn nobody_holds_a_whole_signature(lengths: &[usize], settings: &str) {
    let files = std::env::var("MEERGATE_E2E_PARTS").ok().map(|n| n.parse().unwrap());
    let length = if files.is_some() { 50_000_000 } else { 1_500_000 };
    let files: usize = files.unwrap_or(lengths.len());
    // Digits, which the files are without. The long ones are found by both of their ends.
    let rule = |sid: usize, length: usize| {
        let text = signature(length);
        let (first, last) = text.split_at(text.len().min(16));
        let rest = match last.len() {
            0 => String::new(),
            1..=239 => format!(" content:\"{last}\"; distance:0; within:{};", last.len()),
            _ => format!(
                " content:\"{}\"; distance:{}; within:16;",
                &last[last.len() - 16..],
                last.len() - 16
            ),
        };
        format!(
            "drop http any any -> any any (msg:\"{length} digits\"; flow:to_client; file.data; \
             content:\"{first}\";{rest} sid:{sid};)\n"
        )
    };
    let folder = TempDir::new().unwrap();
    let rules = folder.path().join("digits.rules");
    let config = folder.path().join("inspector.toml");
    fs::write(&config, settings).unwrap();
    let (config, rules_of) = (config.display().to_string(), rules.display().to_string());
    let authority = Authority::new("Origin");
    authority.write(folder.path());
    let trusted = folder.path().join("authority.pem").display().to_string();
    let nginx = Nginx::start(&authority.leaf(&origin::NAMES));
    let mut random = Random(7);
    for number in 0..files {
        let of_it = lengths[number % lengths.len()];
        fs::write(&rules, rule(1, of_it)).unwrap();
        let inspector = Inspector::start(["--config", &config, "--rules", &rules_of]);
        let gateway = Gateway::start(["--icap", &inspector.url(), "--upstream-ca", &trusted]);
        let places =
            [0, random.below(length - of_it), 40_000 + random.below(60_000), length - of_it];
        for place in places {
            let mut file: Vec<u8> =
                content::noise(3, length).iter().map(|b| b'a' + b % 26).collect();
            file[place..place + of_it].copy_from_slice(signature(of_it).as_bytes());
            nginx.put("file", &file);
            let parts = random.parts(length, place, of_it);
            let came = fetch(&gateway, &nginx, &parts);
            let mut held: BTreeMap<usize, u8> = BTreeMap::new();
            let mut whole = 0;
            for ((first, last), (status, body)) in parts.iter().zip(&came) {
                let touches = *first < place + of_it && *last >= place;
                let near = first.saturating_sub(OVERLAP) < place + of_it && last + OVERLAP >= place;
                match status {
                    206 => {
                        assert!(body[..] == file[*first..first + body.len()], "{first}-{last}");
                        let complete = body.len() == last - first + 1;
                        assert!(complete || near, "{first}-{last} was cut at {}", body.len());
                        assert!(!complete || !touches, "{first}-{last} of {place}+{of_it}");
                        whole += usize::from(complete);
                        let digits = (*first..).zip(body).filter(|(_, b)| b.is_ascii_digit());
                        held.extend(digits.map(|(at, b)| (at, *b)));
                    }
                    403 => assert!(near, "{first}-{last} was blocked, {place}+{of_it}"),
                    _ => panic!("{first}-{last}: {status}"),
                }
            }
            assert!(held.len() < of_it, "all {of_it} bytes at {place}");
            assert!(whole > 0 || length < 3 * OVERLAP, "nothing came at all");
        }
    }
}

fn signature(length: usize) -> String {
    // No stretch of 16 comes twice in it by chance; the first digit comes once.
    let mut random = Random(length as u64);
    let digit = |at: usize, n: usize| if at == 0 { '0' } else { char::from(b'1' + n as u8) };
    (0..length).map(|at| digit(at, random.below(9))).collect()
}

/// Asks for the parts in their order; the status and what came of each.
fn fetch(gateway: &Gateway, nginx: &Nginx, parts: &[(usize, usize)]) -> Vec<(u16, Vec<u8>)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/parts.py");
    let mut client = peers::python();
    client.arg(script).args(["localhost", &nginx.port().to_string(), "/file"]);
    client.arg(gateway.proxy().to_string()).arg(gateway.authority());
    client.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = client.spawn().unwrap();
    let list: String = parts.iter().map(|(first, last)| format!("{first}-{last} ")).collect();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let hex = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let came: Vec<_> = lines
        .lines()
        .map(|line| {
            let (status, body) = line.split_once(' ').unwrap();
            (status.parse().unwrap(), body.as_bytes().chunks(2).map(hex).collect())
        })
        .collect();
    assert_eq!(came.len(), parts.len());
    came
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % most
    }

    /// Parts around a signature, and others, in no order.
    fn parts(&mut self, length: usize, place: usize, of_it: usize) -> Vec<(usize, usize)> {
        let middle = place + of_it / 2;
        let mut parts = vec![
            (0, place.saturating_sub(1)),
            (place, place),
            (place + of_it - 1, place + of_it - 1),
            (place + of_it, length - 1),
            (middle, length - 1),
            (0, middle),
            (0, length - 1),
        ];
        for _ in 0..12 {
            let first = self.below(length);
            parts.push((first, first + self.below(300_000)));
            let first = (place + of_it + 500).saturating_sub(self.below(of_it + 1000));
            parts.push((first, first + self.below(20)));
        }
        parts.retain_mut(|(first, last)| {
            *last = (*last).min(length - 1);
            first <= last
        });
        for at in (1..parts.len()).rev() {
            let other = self.below(at + 1);
            parts.swap(at, other);
        }
        parts
    }
}

/// A recording of silence with noise in it that nobody hears: 8 bits, 8,000 a second.
fn recording(seconds: usize) -> Vec<u8> {
    let length = seconds * 8000;
    let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let format = [1, 0, 1, 0, 0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 1, 0, 8, 0];
    let head = [&b"RIFF"[..], &number(36 + length), b"WAVEfmt ", &number(16), &format, b"data"];
    let sound = content::noise(5, length).into_iter().map(|byte| 0x80 ^ byte & 3);
    head.concat().into_iter().chain(number(length)).chain(sound).collect()
}

#[test]
fn clients_that_ask_for_parts_in_their_ways() {
    let inspected = Inspected::start();
    let nginx = Nginx::start(&inspected.identity());
    let gateway = inspected.proxy();
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("file");
    let clean = content::noise(6, 5_000_000);
    let bad = content::infected(6, 5_000_000, 3_300_000);
    nginx.put("bucket/clean", &clean);
    nginx.put("bucket/bad", &bad);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/part_clients.py");
    for client in ["bits", "boto3", "boto3-signed"] {
        for (path, file) in [("/bucket/clean", &clean), ("/bucket/bad", &bad)] {
            let mut python = peers::python();
            python.arg(&script).args([client, &nginx.url(""), path]);
            python.arg(format!("http://{}", gateway.proxy())).arg(gateway.authority());
            let output = python.arg(&target).stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let came = fs::read(&target).unwrap();
            let is_clean = path == "/bucket/clean";
            let code = if is_clean { 0 } else { 3 };
            assert_eq!(output.status.code(), Some(code), "{client} {path}: {said}");
            assert!(!content::has_eicar(&came), "{client} {path}");
            assert!(!is_clean || came == *file, "{client} {path}: {} bytes", came.len());
        }
    }
}

/// Chromium goes to places of a recording, for each of which it asks for another part.
#[test]
fn chromium_goes_to_places_of_a_recording() {
    let inspected = Inspected::start();
    let sound = recording(4000);
    let page = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/video.html")).unwrap();
    let asked = Arc::new((Mutex::new((false, Vec::new())), Condvar::new()));
    let of_origin = asked.clone();
    let handler = move |request: &Request, wire: &mut Wire<'_>| -> io::Result<After> {
        let (state, released) = &*of_origin;
        match &*request.target {
            "/" => return wire.ok("text/html", &page),
            "/wait" => drop(released.wait_while(state.lock().unwrap(), |(done, _)| !*done)),
            "/release" => {
                state.lock().unwrap().0 = true;
                released.notify_all();
            }
            "/sound.wav" => {
                let range = request.fields.get("range").and_then(|r| r.strip_prefix("bytes="));
                let Some(range) = range else {
                    let fields = [("Content-Type", "audio/wav"), ("Accept-Ranges", "bytes")];
                    return wire.with_length("200 OK", &fields, &sound);
                };
                state.lock().unwrap().1.push(range.to_owned());
                let (first, last) = range.split_once('-').unwrap();
                let first: usize = first.parse().unwrap();
                let end = last.parse::<usize>().map_or(sound.len(), |last| last + 1);
                let end = end.min(sound.len());
                let said = format!("bytes {first}-{}/{}", end - 1, sound.len());
                let fields = [("Content-Type", "audio/wav"), ("Content-Range", &*said)];
                return wire.with_length("206 Partial Content", &fields, &sound[first..end]);
            }
            _ => return wire.not_found(),
        }
        wire.ok("text/plain", b"yes")
    };
    let origin = Origin::https(&inspected.identity(), handler);
    let gateway = inspected.proxy();
    let page = chromium::open(&origin.url("/"), gateway.proxy(), &gateway.authority());
    let ranges = asked.0.lock().unwrap().1.clone();
    assert!(page.dom.contains("sought"), "{}\n{ranges:?}\n{}", page.dom, page.log);
    // From somewhere in the midst, too.
    assert!(ranges.iter().any(|range| !range.starts_with("0-")), "{ranges:?}");
}
