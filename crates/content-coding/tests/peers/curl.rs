//! curl, with a server that gives it contents piece by piece.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use crate::clients::Reading;

/// What goes over the wire: the fields' values, and the pieces.
pub struct Message<'a> {
    pub fields: &'a [String],
    pub pieces: &'a [Vec<u8>],
}

/// Lets one curl fetch all of them.
pub fn read_all(messages: &[Message<'_>], folder: &Path) -> Vec<Reading> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for connection in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let connection = connection.unwrap();
                scope.spawn(move || serve(&connection, messages));
            }
        });
        let readings = fetch(messages.len(), &address.to_string(), folder);
        ended.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(address));
        readings
    })
}

fn fetch(count: usize, address: &str, folder: &Path) -> Vec<Reading> {
    let file = |number| folder.join(format!("curl-{number}"));
    let mut config = "silent\ncompressed\nmax-time = 120\n".to_owned();
    for number in 0..count {
        let output = file(number);
        config += &format!("url = \"http://{address}/{number}\"\n");
        config += &format!("output = \"{}\"\n", output.display());
    }
    let mut curl = Command::new("curl")
        .args(["-q", "--noproxy", "*", "-K", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("curl: {error}; see scripts/install-deps"));
    curl.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    // Its status is that of the last content.
    curl.wait().unwrap();
    let read = |number| {
        let read = fs::read(file(number)).unwrap_or_default();
        let _ = fs::remove_file(file(number));
        Reading { by: "curl".to_owned(), read }
    };
    (0..count).map(read).collect()
}

/// One connection; curl ends it at a content that it objects to.
fn serve(connection: &TcpStream, messages: &[Message<'_>]) {
    connection.set_nodelay(true).unwrap();
    let mut lines = BufReader::new(connection).lines();
    while let Some(Ok(line)) = lines.next() {
        let Some(path) = line.strip_prefix("GET /") else { continue };
        let number: usize = path.split(' ').next().unwrap().parse().unwrap();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        if answer(connection, &messages[number]).is_err() {
            return;
        }
    }
}

fn answer(mut connection: &TcpStream, message: &Message<'_>) -> std::io::Result<()> {
    let mut head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n".to_owned();
    for field in message.fields {
        head += &format!("Content-Encoding: {field}\r\n");
    }
    connection.write_all(format!("{head}\r\n").as_bytes())?;
    for piece in message.pieces {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        connection.write_all(&chunk)?;
    }
    connection.write_all(b"0\r\n\r\n")
}
