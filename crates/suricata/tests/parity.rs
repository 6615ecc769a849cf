//! What the engine says about streams is what the `suricata` program of the same build says about the same traffic on a
//! wire: a corpus of made-up connections goes through both.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // Helpers of tests.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use common::{EICAR, Lab, Random, chunked, noise, response};
use serde_json::Value;
use suricata::{Direction, Expect, SURICATA_PROGRAM, Tuple, Worker};

const CONNECTIONS: u16 = 400;

/// The first client's port: above all of servers, so that a record says whose it is.
const FIRST_PORT: u16 = 10_000;

/// What both are asked to do. The same for both, but for what `--simulate-ips` stands for.
const YAML: &str = "%YAML 1.1
---
outputs:
  - eve-log:
      enabled: yes
      filetype: regular
      filename: eve.json
      types:
        - alert
unix-command:
  enabled: no
vars:
  address-groups:
    HOME_NET: any
stream:
  reassembly:
    depth: 0
app-layer:
  protocols:
    http:
      enabled: yes
      libhtp:
        default-config:
          personality: IDS
          request-body-limit: 0
          response-body-limit: 0
          randomize-inspection-sizes: no
";

/// One connection: who says what, in turn.
struct Dialogue {
    tuple: Tuple,
    turns: Vec<(Direction, Vec<u8>)>,
}

/// How long the next piece is.
type Cut = fn(&mut Random) -> usize;

/// `(sid, blocked)` of each connection, by the client's port.
type Findings = BTreeMap<u16, BTreeSet<(u64, bool)>>;

#[test]
fn streams_and_packets_give_the_same_alerts() {
    if !Path::new(SURICATA_PROGRAM).exists() {
        eprintln!("skipped: {SURICATA_PROGRAM} is not there");
        return;
    }
    let mut random = Random(0xfeed);
    let dialogues = (0..CONNECTIONS)
        .map(|number| dialogue(FIRST_PORT + number, &mut random))
        .collect::<Vec<_>>();
    let folder = tempfile::tempdir().unwrap();
    let yaml = folder.path().join("suricata.yaml");
    fs::write(&yaml, YAML).unwrap();
    let expected = on_the_wire(&dialogues, folder.path(), &yaml);
    assert!(
        expected.len() > usize::from(CONNECTIONS) / 4,
        "the corpus is dull: {}",
        expected.len()
    );

    let log_dir = folder.path().to_path_buf();
    let lab = Lab::start(common::RULES, |config| config.yaml(yaml).log_dir(log_dir));
    lab.run(move |worker| {
        let whole = |_: &mut Random| usize::MAX;
        let wire = |_: &mut Random| 1460;
        let any = |random: &mut Random| 1 + random.below(5000);
        let cuts: [(&str, Cut); 3] = [("whole", whole), ("wire", wire), ("random", any)];
        for (name, cut) in cuts {
            let mut random = Random(7);
            for dialogue in &dialogues {
                let port = dialogue.tuple.client().port();
                let found = in_process(worker, dialogue, || cut(&mut random));
                let wanted = expected.get(&port).cloned().unwrap_or_default();
                assert_eq!(found, wanted, "connection {port}, {name}");
            }
        }
    });
}

fn dialogue(port: u16, random: &mut Random) -> Dialogue {
    let client: SocketAddr;
    let server: SocketAddr;
    if random.below(2) == 0 {
        client = ([10, 1, 2, 3], port).into();
        server = ([198, 51, 100, 9], 8080).into();
    } else {
        client = format!("[2001:db8::7]:{port}").parse().unwrap();
        server = "[2001:db8:1::80]:80".parse().unwrap();
    }
    let mut turns = Vec::new();
    for _ in 0..=random.below(4) {
        let method = ["GET", "POST", "PUT", "HEAD", "DELETE"][random.below(5)];
        let path = ["/", "/noted", "/a/b?c=d", "/%66orbidden", "/x/../noted"][random.below(5)];
        // A URL that blocks and an upload that blocks would come in one piece here and in two packets there.
        let body = match method {
            "POST" | "PUT" if path.contains("orbidden") => noise(500, random.next()),
            "POST" | "PUT" => a_body(random),
            _ => Vec::new(),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: files.example\r\n");
        let request = if body.is_empty() {
            [head.as_bytes(), b"\r\n"].concat()
        } else if random.below(2) == 0 {
            [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
        } else {
            let coded = chunked(&body, 1 + random.below(3000));
            let start = coded.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &coded[start..]]
                .concat()
        };
        turns.push((Direction::ToServer, request));
        if random.below(8) == 0 {
            turns.push((
                Direction::ToClient,
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(),
            ));
        }
        if method == "HEAD" {
            turns.push((
                Direction::ToClient,
                b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n".to_vec(),
            ));
            continue;
        }
        let body = a_body(random);
        let reply = match random.below(4) {
            0 => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec(),
            1 => chunked(&body, 1 + random.below(8000)),
            2 => {
                turns.push((Direction::ToClient, response("Connection: close", &body)));
                break;
            }
            _ => response(&format!("Content-Length: {}", body.len()), &body),
        };
        turns.push((Direction::ToClient, reply));
    }
    Dialogue { tuple: Tuple::new(client, server).unwrap(), turns }
}

fn a_body(random: &mut Random) -> Vec<u8> {
    let len = [10, 1000, 20_000, 100_000][random.below(4)];
    let mut body = noise(1 + random.below(len), random.next());
    if random.below(6) == 0 {
        let at = random.below(body.len());
        body.splice(at..at, EICAR.iter().copied());
    }
    body
}

/// Feeds a dialogue and collects every alert.
fn in_process(
    worker: &mut Worker,
    dialogue: &Dialogue,
    mut cut: impl FnMut() -> usize,
) -> BTreeSet<(u64, bool)> {
    let mut found = BTreeSet::new();
    let mut flow = worker.open(dialogue.tuple, None).unwrap();
    flow.expect(Expect::Http1);
    'all: for (direction, bytes) in &dialogue.turns {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut().min(rest.len()));
            let verdict = worker.feed(&mut flow, *direction, piece).unwrap();
            found.extend(worker.alerts().map(|alert| (alert.sid().into(), alert.drops())));
            if verdict.is_drop() {
                break 'all;
            }
            rest = after;
        }
    }
    let _ = worker.close(flow).unwrap();
    found.extend(worker.alerts().map(|alert| (alert.sid().into(), alert.drops())));
    found
}

/// Runs the `suricata` program over a capture of the dialogues.
fn on_the_wire(dialogues: &[Dialogue], folder: &Path, yaml: &Path) -> Findings {
    let mut capture = Capture::new();
    for dialogue in dialogues {
        capture.connection(dialogue);
    }
    let pcap = folder.join("corpus.pcap");
    fs::write(&pcap, capture.bytes).unwrap();
    let rules = folder.join("wire.rules");
    fs::write(&rules, common::RULES).unwrap();
    let log_dir = folder.join("wire");
    fs::create_dir(&log_dir).unwrap();
    let output = Command::new(SURICATA_PROGRAM)
        .args(["--simulate-ips", "-k", "none", "--runmode", "single", "-r"])
        .arg(&pcap)
        .arg("-c")
        .arg(yaml)
        .arg("-S")
        .arg(&rules)
        .arg("-l")
        .arg(&log_dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut findings = Findings::new();
    for line in fs::read_to_string(log_dir.join("eve.json")).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if record["event_type"] != "alert" {
            continue;
        }
        let ports = [&record["src_port"], &record["dest_port"]];
        let port = ports.map(|port| port.as_u64().unwrap() as u16).into_iter().max().unwrap();
        let blocked = record["alert"]["action"] == "blocked";
        findings
            .entry(port)
            .or_default()
            .insert((record["alert"]["signature_id"].as_u64().unwrap(), blocked));
    }
    findings
}

/// A pcap file of ordinary TCP connections, written here from scratch so that nothing is shared with what is tested.
struct Capture {
    bytes: Vec<u8>,
    clock: u32,
}

impl Capture {
    fn new() -> Self {
        let mut bytes = Vec::new();
        // Magic, version 2.4, zone, accuracy, snap length, LINKTYPE_RAW.
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 101] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        Self { bytes, clock: 0 }
    }

    fn connection(&mut self, dialogue: &Dialogue) {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        const FIN: u8 = 1;
        let (client, server) = (dialogue.tuple.client(), dialogue.tuple.server());
        let mut next = [1000_u32, 2000];
        self.packet(client, server, next, SYN, &[]);
        next[0] += 1;
        self.packet(server, client, [next[1], next[0]], SYN | ACK, &[]);
        next[1] += 1;
        self.packet(client, server, next, ACK, &[]);
        for (direction, bytes) in &dialogue.turns {
            for piece in bytes.chunks(1460) {
                let (from, to, own, other) = match direction {
                    Direction::ToServer => (client, server, 0, 1),
                    Direction::ToClient => (server, client, 1, 0),
                };
                self.packet(from, to, [next[own], next[other]], ACK, piece);
                next[own] += piece.len() as u32;
                self.packet(to, from, [next[other], next[own]], ACK, &[]);
            }
        }
        self.packet(client, server, next, FIN | ACK, &[]);
        next[0] += 1;
        self.packet(server, client, [next[1], next[0]], FIN | ACK, &[]);
        next[1] += 1;
        self.packet(client, server, next, ACK, &[]);
    }

    fn packet(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        numbers: [u32; 2],
        flags: u8,
        data: &[u8],
    ) {
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&from.port().to_be_bytes());
        tcp.extend_from_slice(&to.port().to_be_bytes());
        tcp.extend_from_slice(&numbers[0].to_be_bytes());
        tcp.extend_from_slice(&numbers[1].to_be_bytes());
        tcp.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend_from_slice(data);
        let mut packet = Vec::new();
        match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let len = (20 + tcp.len()) as u16;
                packet.extend_from_slice(&[0x45, 0]);
                packet.extend_from_slice(&len.to_be_bytes());
                packet.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
                packet.extend_from_slice(&from.ip().octets());
                packet.extend_from_slice(&to.ip().octets());
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                packet.extend_from_slice(&[0x60, 0, 0, 0]);
                packet.extend_from_slice(&(tcp.len() as u16).to_be_bytes());
                packet.extend_from_slice(&[6, 64]);
                packet.extend_from_slice(&from.ip().octets());
                packet.extend_from_slice(&to.ip().octets());
            }
            _ => panic!("mixed families"),
        }
        packet.extend_from_slice(&tcp);
        self.clock += 10;
        let header = [
            1_700_000_000 + self.clock / 1_000_000,
            self.clock % 1_000_000,
            packet.len() as u32,
            packet.len() as u32,
        ];
        for word in header {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(&packet);
    }
}
