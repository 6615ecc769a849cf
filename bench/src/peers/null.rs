//! A server that knows the lengths of what comes and has the replies ready: the least that any
//! ICAP server costs, and what the generator itself reaches at most.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use e2e::Process;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::folder;
use crate::load::icap::{Exchange, Load, http_request, http_response};
use crate::pattern;

/// So many bytes come, then the reply goes.
#[derive(Clone, Debug)]
struct Turn {
    request: usize,
    reply: Bytes,
}

/// A running null server, as a process of its own, so that its cost can be counted.
#[derive(Debug)]
pub struct Null {
    process: Process,
    addr: SocketAddr,
    _folder: TempDir,
}

impl Null {
    /// Starts one for exactly the transactions of `load`.
    pub fn start(load: &Load) -> Self {
        let folder = folder();
        let mut command = Command::new(std::env::current_exe().expect("this program's path"));
        command.arg("null");
        // The server's address is part of a request and unknown yet; ports have five digits.
        for (number, turn) in load.exchanges(0).iter().flat_map(|e| turns(load, e)).enumerate() {
            let file = folder.path().join(number.to_string());
            std::fs::write(&file, &turn.reply).expect("room for a reply");
            command.arg(format!("{}={}", turn.request, file.display()));
        }
        let mut process = Process::start("null", &mut command);
        let addr = process.wait_for("its port", |line| line.parse().ok());
        Self { process, addr, _folder: folder }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The null server itself: `<bytes of request>=<file with the reply>`, in a cycle.
///
/// # Errors
/// When a file can't be read or no port be had.
pub fn serve(turns: &[String]) -> io::Result<()> {
    let turns: Arc<[Turn]> = turns
        .iter()
        .map(|turn| {
            let (bytes, file) = turn.split_once('=').ok_or(io::ErrorKind::InvalidInput)?;
            let request = bytes.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
            Ok(Turn { request, reply: std::fs::read(file)?.into() })
        })
        .collect::<io::Result<_>>()?;
    // Two accept loops on one port, as servers with two worker threads have.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, five_digits()))?;
    listener.set_nonblocking(true)?;
    let second = listener.try_clone()?;
    println!("{}", listener.local_addr()?);
    let other = turns.clone();
    std::thread::spawn(move || accept(second, other));
    accept(listener, turns)
}

/// Lets the kernel choose until the port has five digits, since requests name it.
fn five_digits() -> u16 {
    loop {
        let probe = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        match probe.and_then(|probe| probe.local_addr()) {
            Ok(addr) if addr.port() >= 10_000 => return addr.port(),
            _ => {}
        }
    }
}

fn accept(listener: std::net::TcpListener, turns: Arc<[Turn]>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let turns = turns.clone();
            tokio::task::spawn_local(async move {
                // A client that goes is the usual end.
                let _gone = answer(stream, &turns).await;
            });
        }
    })
}

async fn answer(mut stream: TcpStream, turns: &[Turn]) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    for turn in turns.iter().cycle() {
        let mut left = turn.request;
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                n => left = left.checked_sub(n).ok_or(io::ErrorKind::InvalidData)?,
            }
        }
        stream.write_all(&turn.reply).await?;
    }
    Ok(())
}

fn turns(load: &Load, exchange: &Exchange) -> Vec<Turn> {
    let length = |pieces: &[Bytes]| pieces.iter().map(Bytes::len).sum();
    let istag = "ISTag: \"null\"\r\n";
    let reply = if load.allow_204 || load.preview.is_some() {
        format!("ICAP/1.0 204 No Content\r\n{istag}\r\n").into()
    } else if exchange.body == 0 {
        let head = http_request();
        format!(
            "ICAP/1.0 200 OK\r\n{istag}Encapsulated: req-hdr=0, null-body={}\r\n\r\n{head}",
            head.len()
        )
        .into()
    } else {
        let head = http_response(exchange.body);
        let mut reply = format!(
            "ICAP/1.0 200 OK\r\n{istag}Encapsulated: res-hdr=0, res-body={}\r\n\r\n{head}",
            head.len()
        )
        .into_bytes();
        for piece in pattern::pieces(exchange.body, 64 << 10) {
            reply.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            reply.extend_from_slice(&piece);
            reply.extend_from_slice(b"\r\n");
        }
        reply.extend_from_slice(b"0\r\n\r\n");
        reply.into()
    };
    vec![Turn { request: length(&exchange.first), reply }]
}
