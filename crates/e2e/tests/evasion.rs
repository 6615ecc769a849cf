//! A bad content that is hidden by the way its response is written, in all ways that http-evader has and in more, through both programs:
//! neither curl nor Chromium gets it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use e2e::origin::{After, Request, Wire};
use e2e::{Curl, Inspected, Origin, chromium, content, peers};
use tempfile::TempDir;

/// Responses, as they are sent, and what each is.
fn responses(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let bad = folder.join("bad");
    std::fs::write(&bad, content::eicar()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/evasion.py");
    let mut python = peers::python();
    python.arg(script).arg(folder).stdin(std::fs::File::open(bad).unwrap());
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| {
        let (number, what) = line.split_once(' ').unwrap();
        (what.to_owned(), std::fs::read(folder.join(number)).unwrap())
    };
    lines.lines().map(read).collect()
}

/// What Chromium has found, and whether it is through.
#[derive(Default)]
struct Told {
    found: BTreeSet<usize>,
    released: bool,
}

struct Server {
    origin: Origin,
    told: Arc<(Mutex<Told>, Condvar)>,
}

impl Server {
    fn start(responses: Arc<Vec<(String, Vec<u8>)>>) -> Self {
        let told = Arc::<(Mutex<Told>, Condvar)>::default();
        let of_origin = Arc::clone(&told);
        let frame = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/readers/evasion.html");
        let page = std::fs::read_to_string(frame).unwrap();
        let page = page.replace("COUNT", &responses.len().to_string());
        let handler = move |request: &Request, wire: &mut Wire<'_>| -> io::Result<After> {
            let (told, released) = &*of_origin;
            let words: Vec<&str> = request.target[1..].split('/').collect();
            match words[..] {
                ["page"] => return wire.ok("text/html", page.as_bytes()),
                ["wait"] => {
                    let told = told.lock().unwrap();
                    drop(released.wait_while(told, |told| !told.released).unwrap());
                }
                ["release"] => {
                    told.lock().unwrap().released = true;
                    released.notify_all();
                }
                ["found", number] => {
                    told.lock().unwrap().found.insert(number.parse().map_err(io::Error::other)?);
                }
                [number] => {
                    let number = number.parse::<usize>().map_err(io::Error::other)?;
                    wire.raw(&responses[number].1)?;
                    return Ok(After::Close);
                }
                _ => return wire.not_found(),
            }
            wire.ok("text/plain", b"yes")
        };
        Self { origin: Origin::http(handler), told }
    }

    fn by_chromium(&self, open: impl FnOnce(&str) -> chromium::Page) -> BTreeSet<usize> {
        let page = open(&self.origin.url("/page"));
        assert!(page.dom.contains("all read"), "{}\n{}", page.dom, page.log);
        std::mem::take(&mut *self.told.0.lock().unwrap()).found
    }

    fn by_curl(&self, curl: &Curl, count: usize) -> BTreeSet<usize> {
        let curl = curl.clone().arg("--max-time").arg("30").arg("--compressed").arg("--http0.9");
        let next = AtomicUsize::new(0);
        let found = Mutex::new(BTreeSet::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let fetched = curl.run(&self.origin.url(&format!("/{number}")));
                        if content::has_eicar(&fetched.body) {
                            found.lock().unwrap().insert(number);
                        }
                    }
                });
            }
        });
        found.into_inner().unwrap()
    }
}

#[test]
fn nobody_gets_what_is_hidden_by_the_way_a_response_is_written() {
    let folder = TempDir::new().unwrap();
    let responses = Arc::new(responses(folder.path()));
    let count = responses.len();
    assert!(count > 600, "{count}");
    let inspected = Inspected::start();
    let gateway = inspected.proxy();
    let server = Server::start(Arc::clone(&responses));
    let (trusted, forged) = (inspected.origins(), gateway.authority());

    // They read much of it without us.
    let bare = server.by_curl(&Curl::direct(), count);
    let seen = server.by_chromium(|url| chromium::open_directly(url, &trusted));
    println!("of {count}, curl reads {}, Chromium {}", bare.len(), seen.len());
    assert!(bare.len() > count / 4 && seen.len() > count / 4);

    let through = Curl::through(gateway.proxy());
    let of_curl = server.by_curl(&through, count);
    let of_chromium = server.by_chromium(|url| chromium::open(url, gateway.proxy(), &forged));
    let names = |found: &BTreeSet<usize>| {
        found.iter().map(|number| format!("{number} {}", responses[*number].0)).collect::<Vec<_>>()
    };
    assert!(of_curl.is_empty(), "curl: {:#?}", names(&of_curl));
    assert!(of_chromium.is_empty(), "Chromium: {:#?}", names(&of_chromium));
}
