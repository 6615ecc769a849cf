//! Fetching the certificates of CAs that origins leave out of their chains.
//!
//! The origin says where, so it is a stranger's word that leads there: over HTTP alone, to where clients are led, for
//! little and not for long. What comes is verified as if the origin had shown it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::BytesMut;
use http_wire::{ChunkEvent, ChunkedDecoder, Framing, Limits, ResponseHead};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::lately::{Lately, Question};
use crate::words::HttpUrl;

/// How long a certificate that was fetched is known, and that there is none.
const KEEP: Duration = Duration::from_secs(3600);
const KEEP_NONE: Duration = Duration::from_secs(60);
/// Places of which it is known what is there.
const PLACES: usize = 1024;
/// Questions under way at once. Those beyond are not asked.
const AT_ONCE: usize = 16;
/// How long one may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes. Certificates of CAs have 1 to 2 KiB.
const LONGEST: usize = 16 * 1024;

/// What was fetched lately, shared by all connections.
#[derive(Debug)]
pub struct Fetched {
    answers: Lately<Option<Arc<CertificateDer<'static>>>>,
    at_once: Semaphore,
}

impl Default for Fetched {
    fn default() -> Self {
        Self { answers: Lately::new(PLACES), at_once: Semaphore::new(AT_ONCE) }
    }
}

impl Fetched {
    /// The certificate at `url`, asked for over what `connect` opens unless it is known. Who reaches it by another
    /// `way` may find another one.
    pub(super) async fn fetch<E>(
        &self,
        way: &str,
        url: &HttpUrl,
        connect: impl Future<Output = Result<TcpStream, E>>,
    ) -> Option<CertificateDer<'static>> {
        let question = question(way, url);
        if let Some(known) = self.answers.answer(&question) {
            return known.map(|certificate| (*certificate).clone());
        }
        let _turn = self.at_once.try_acquire().ok()?;
        let asked =
            async { ask(connect.await.ok()?, url).await.ok().and_then(|answer| read(&answer)) };
        let found = timeout(PATIENCE, asked).await.ok().flatten();
        tracing::debug!(
            url = url.as_str(),
            found = found.is_some(),
            "a certificate that an origin left out"
        );
        let keep = if found.is_some() { KEEP } else { KEEP_NONE };
        self.answers.note(question, found.clone().map(Arc::new), keep);
        found
    }
}

fn question(way: &str, url: &HttpUrl) -> Question {
    let asked = digest::digest(&digest::SHA256, format!("{way} {}", url.as_str()).as_bytes());
    let mut question = [0; 32];
    question.copy_from_slice(asked.as_ref());
    question
}

/// What a GET is answered with, if that is a 200.
async fn ask(mut stream: TcpStream, url: &HttpUrl) -> io::Result<Vec<u8>> {
    let host = url.target().to_string();
    let host = host.strip_suffix(":80").unwrap_or(&host);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.path()
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut input, limits) = (BytesMut::new(), Limits::default());
    let head = loop {
        match ResponseHead::parse_lenient(&mut input, &limits).map_err(io::Error::other)? {
            Some(read) if read.head.status() < 200 => continue,
            Some(read) if read.head.status() == 200 => break read.head,
            Some(_) => return Err(io::Error::other("it is not there")),
            None => {}
        }
        more(&mut stream, &mut input).await?;
    };
    let mut content = Vec::new();
    let mut decoder = ChunkedDecoder::default().lenient();
    let framing = head.framing(b"GET").map_err(io::Error::other)?;
    loop {
        match framing {
            Framing::None => return Ok(content),
            Framing::Chunked => match decoder.decode(&mut input).map_err(io::Error::other)? {
                Some(ChunkEvent::Data(data)) => content.extend_from_slice(&data),
                Some(ChunkEvent::End { .. }) => return Ok(content),
                None => more(&mut stream, &mut input).await?,
            },
            Framing::Length(length) if content.len() as u64 >= length => return Ok(content),
            Framing::Length(_) => {
                if input.is_empty() {
                    more(&mut stream, &mut input).await?;
                }
                content.extend_from_slice(&input.split());
            }
            Framing::UntilClose => {
                content.extend_from_slice(&input.split());
                if stream.read_buf(&mut input).await? == 0 {
                    return Ok(content);
                }
            }
        }
        if content.len() > LONGEST {
            return Err(io::Error::other("it is too long"));
        }
    }
}

async fn more(stream: &mut TcpStream, input: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// One certificate, in DER, or in PEM as some CAs have it there.
fn read(content: &[u8]) -> Option<CertificateDer<'static>> {
    match content.starts_with(b"-----BEGIN") {
        true => CertificateDer::from_pem_slice(content).ok(),
        false => Some(CertificateDer::from(content.to_vec())).filter(|der| !der.is_empty()),
    }
}
