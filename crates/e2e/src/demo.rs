//! The main job on real input: what `make demo` shows, and `tests/demo.rs` holds to.
//!
//! An HTTPS origin, the inspector and the gateway on loopback; curl asks for files clean and not.

use std::fs;
use std::io;

use serde_json::Value;
use tempfile::TempDir;

use crate::origin::{self, After, Request, Wire};
use crate::pki::Authority;
use crate::{Curl, Gateway, Inspector, Origin, content};

/// The signatures of `rules/test.rules`.
pub mod sid {
    /// EICAR in a response.
    pub const DOWNLOAD: u64 = 1_000_001;
    /// EICAR in a request's body.
    pub const UPLOAD: u64 = 1_000_002;
    /// A request for the forbidden path.
    pub const PATH: u64 = 1_000_003;
}

const MIB: usize = 1 << 20;

/// All parts, running.
pub struct Demo {
    /// The gateway.
    pub gateway: Gateway,
    /// The inspector.
    pub inspector: Inspector,
    /// The HTTPS server.
    pub origin: Origin,
    folder: TempDir,
}

/// One request and how it must end.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// What is asked, in words.
    pub asked: &'static str,
    path: &'static str,
    upload: bool,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// A 403 page that names this signature, instead of the content.
    Blocked(u64),
    /// The content, byte for byte.
    Clean,
    /// A transfer that breaks off before the signature, since its first part had to be released.
    Cut(u64),
}

/// How a [`Scene`] ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the programs decided.
    pub verdict: &'static str,
    /// The signature that decided it.
    pub sid: Option<u64>,
    /// What reached the client, in words.
    pub got: String,
    /// From the client's start to its end.
    pub milliseconds: u64,
    /// Whether it ended as it must; the reason if not.
    pub right: Result<(), String>,
    /// The engine's event, for verdicts that have one.
    pub event: Option<Value>,
}

/// The scenes in the order in which they are shown.
pub const SCENES: [Scene; 8] = [
    download("clean file, 1 MB", "/clean/1", End::Clean),
    download("clean file, 100 MB", "/clean/100", End::Clean),
    download("EICAR", "/eicar", End::Blocked(sid::DOWNLOAD)),
    download("EICAR, gzip", "/eicar/gzip", End::Blocked(sid::DOWNLOAD)),
    download("EICAR split over chunks", "/eicar/chunked", End::Blocked(sid::DOWNLOAD)),
    download("EICAR 5 MB deep in 10 MB", "/eicar/deep", End::Cut(sid::DOWNLOAD)),
    Scene { upload: true, ..download("EICAR in an upload", "/upload", End::Blocked(sid::UPLOAD)) },
    download("URL that a rule forbids", "/meergate-forbidden", End::Blocked(sid::PATH)),
];

const fn download(asked: &'static str, path: &'static str, end: End) -> Scene {
    Scene { asked, path, upload: false, end }
}

impl Demo {
    /// Starts all parts on free loopback ports.
    ///
    /// # Panics
    /// When one doesn't come up; with its log.
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let authority = Authority::new("Demo origin");
        let trusted = authority.write(folder.path());
        let origin = Origin::https(&authority.leaf(&origin::NAMES), serve);
        let inspector = Inspector::with_test_rules();
        let gateway = Gateway::start([
            "--icap",
            &inspector.url(),
            "--upstream-ca",
            &trusted.display().to_string(),
        ]);
        Self { gateway, inspector, origin, folder }
    }

    /// Plays one scene with curl.
    ///
    /// # Panics
    /// When curl can't be run.
    pub fn play(&mut self, scene: &Scene) -> Outcome {
        let mut curl = Curl::through(self.gateway.proxy()).trust(&self.gateway.authority());
        if scene.upload {
            let file = self.folder.path().join("upload");
            fs::write(&file, content::infected(7, 100_000, 50_000)).expect("a file to upload");
            curl = curl.post(&file);
        }
        let fetched = curl.run(&self.origin.url(scene.path));
        let size = fetched.body.len();
        let (verdict, got) = match (fetched.exit, fetched.status) {
            (0, 200) => ("pass", format!("200, {size} bytes")),
            (0, 403) => ("block", "403, block page".to_owned()),
            (0, status) => ("error", format!("{status}, {size} bytes")),
            (exit, _) => ("cut", format!("cut after {size} bytes (curl {exit})")),
        };
        let sid = match scene.end {
            End::Blocked(sid) | End::Cut(sid) => Some(sid),
            End::Clean => None,
        };
        let ports = [fetched.local_port, self.origin.addr().port()].map(u64::from);
        // Without a verdict there is no event to wait for.
        let decided = matches!(verdict, "block" | "cut");
        let event = sid
            .filter(|_| decided)
            .map(|sid| self.inspector.wait_for_alert(sid, |event| has_ports(event, ports)));

        let right = if content::has_eicar(&fetched.body) {
            Err("the signature reached the client".to_owned())
        } else {
            match scene.end {
                End::Clean if verdict != "pass" => Err(fetched.text() + &fetched.stderr),
                End::Clean if fetched.body != body_of(scene.path) => Err("other bytes".to_owned()),
                End::Blocked(_) if verdict != "block" => Err(fetched.text() + &fetched.stderr),
                End::Blocked(sid) if !fetched.text().contains(&sid.to_string()) => {
                    Err("the page does not name the signature".to_owned())
                }
                End::Blocked(_) if scene.upload && self.uploaded() => {
                    Err("the upload reached the origin".to_owned())
                }
                End::Cut(_) if verdict != "cut" => Err("the transfer did not break off".to_owned()),
                End::Cut(_) if !body_of(scene.path).starts_with(&fetched.body) => {
                    Err("other bytes before the cut".to_owned())
                }
                _ => Ok(()),
            }
        };
        Outcome { verdict, sid, got, milliseconds: fetched.milliseconds, right, event }
    }

    fn uploaded(&self) -> bool {
        self.origin.requests().iter().any(|request| content::has_eicar(&request.body))
    }
}

/// Whether an event's flow is the one between the client's and the origin's real ports, whichever
/// way its packet went.
fn has_ports(event: &Value, [client, server]: [u64; 2]) -> bool {
    let ports = [event["src_port"].as_u64(), event["dest_port"].as_u64()];
    ports == [Some(client), Some(server)] || ports == [Some(server), Some(client)]
}

fn serve(request: &Request, wire: &mut Wire<'_>) -> io::Result<After> {
    const TYPE: &str = "application/octet-stream";
    let body = body_of(&request.target);
    match request.target.as_str() {
        "/eicar/gzip" => wire.with_length(
            "200 OK",
            &[("Content-Type", TYPE), ("Content-Encoding", "gzip")],
            &content::gzip(&body),
        ),
        // Ten bytes a chunk, so the signature lies in several.
        "/eicar/chunked" => wire.chunked(TYPE, body.chunks(10)),
        _ => wire.ok(TYPE, &body),
    }
}

/// What the origin has at `path`, before any content coding.
fn body_of(path: &str) -> Vec<u8> {
    match path {
        "/clean/1" => content::noise(1, MIB),
        "/clean/100" => content::noise(2, 100 * MIB),
        "/eicar" | "/eicar/gzip" => content::eicar(),
        "/eicar/chunked" => content::infected(3, 1000, 500),
        "/eicar/deep" => content::infected(4, 10 * MIB, 5 * MIB),
        _ => b"never to be seen\n".to_vec(),
    }
}
