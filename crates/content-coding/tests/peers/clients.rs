//! Programs that decode as clients do, one process each for all contents.
//!
//! To a client goes: how many codings, each of them; how many pieces, each of them. From it comes:
//! how many readings, of each a name and what was read before the first error. Numbers have 32 bits,
//! the low byte first, and stand before what they count.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::released::Released;

/// What a client read.
pub struct Reading {
    pub by: String,
    pub read: Vec<u8>,
}

pub struct Client {
    name: &'static str,
    process: Child,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Client {
    /// All of them. `folder` is for what is to be built.
    pub fn all(folder: &Path) -> Vec<Client> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
        let built = folder.join("client");
        let mut go = Command::new("go");
        go.env("GOCACHE", folder.join("cache")).env("GO111MODULE", "off").env("GOFLAGS", "");
        run(go.args(["build", "-o"]).arg(&built).arg(source.join("client.go")));
        run(Command::new("javac").arg("-d").arg(folder).arg(source.join("Client.java")));
        let mut java = Command::new("java");
        java.args(["-Xshare:auto", "-XX:+UseSerialGC", "-cp"]).arg(folder).arg("Client");
        let mut python = Command::new("/usr/bin/python3");
        python.arg(source.join("client.py"));
        let mut node = Command::new("node");
        node.arg(source.join("client.mjs"));
        vec![
            Client::start("Go", &mut Command::new(built)),
            Client::start("Java", &mut java),
            Client::start("node", &mut node),
            Client::start("Python", &mut python),
        ]
    }

    fn start(name: &'static str, command: &mut Command) -> Client {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; see scripts/install-deps"));
        let to = BufWriter::new(process.stdin.take().unwrap());
        let from = BufReader::new(process.stdout.take().unwrap());
        Client { name, process, to, from }
    }

    /// Lets it read a content.
    pub fn read(&mut self, released: &Released) -> Vec<Reading> {
        let codings = released.codings.applied();
        self.put(codings.len());
        for coding in codings {
            self.block(coding.token().as_bytes());
        }
        self.put(released.pieces.len());
        for piece in &released.pieces {
            self.block(piece);
        }
        self.to.flush().unwrap();
        let readings = self.number();
        (0..readings)
            .map(|_| {
                let how = String::from_utf8(self.taken()).unwrap();
                Reading { by: format!("{}, {how}", self.name), read: self.taken() }
            })
            .collect()
    }

    fn put(&mut self, number: usize) {
        self.to.write_all(&u32::try_from(number).unwrap().to_le_bytes()).unwrap();
    }

    fn block(&mut self, bytes: &[u8]) {
        self.put(bytes.len());
        self.to.write_all(bytes).unwrap();
    }

    fn number(&mut self) -> usize {
        let mut bytes = [0; 4];
        let result = self.from.read_exact(&mut bytes);
        assert!(result.is_ok(), "{} ended", self.name);
        u32::from_le_bytes(bytes) as usize
    }

    fn taken(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.number()];
        self.from.read_exact(&mut bytes).unwrap();
        bytes
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; see scripts/install-deps"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
