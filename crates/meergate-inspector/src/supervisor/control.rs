//! The socket over which a running inspector takes commands from its own command line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use start_error::StartError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Reason};
use crate::loaded::Loaded;
use crate::modes;
use crate::settings::Settings;

/// Bytes of a command, at most.
const MAX_COMMAND: u64 = 64;
/// How long the command may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked for.
pub(crate) enum Command {
    /// Load rules and settings anew.
    Reload(oneshot::Sender<Result<Loaded, Reason>>),
}

/// The socket while it is there.
pub(crate) struct Control {
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // Gone already: nothing is left to do.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens for commands. Without a path in the settings, a default that another inspector uses
/// already is left to that one.
///
/// # Errors
/// The path of the settings cannot be listened on.
pub(crate) fn listen(
    settings: &Settings,
    commands: mpsc::Sender<Command>,
) -> Result<Option<Control>, StartError> {
    let path = settings.control_path();
    let listener = match bind(&path) {
        Ok(listener) => listener,
        Err(error) if settings.control.is_none() => {
            tracing::warn!(path = %path.display(), %error, "no control socket: reload by SIGHUP");
            return Ok(None);
        }
        Err(error) => {
            let what = format!("cannot listen for commands ({error})");
            let place = format!("control = {:?}", path.display().to_string());
            return Err(StartError::new(what, place, "choose another path"));
        }
    };
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answer(stream, commands.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(Some(Control { path }))
}

fn bind(path: &Path) -> io::Result<tokio::net::UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => {}
    }
    // For the owner alone; nothing else opens files in this process now.
    let listener = modes::bind(path, Mode::RUSR | Mode::WUSR)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

async fn answer(mut stream: tokio::net::UnixStream, commands: mpsc::Sender<Command>) {
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let mut read = tokio::io::BufReader::new(read.take(MAX_COMMAND));
    if !matches!(tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await, Ok(Ok(_))) {
        return;
    }
    let result: Result<Loaded, Reason> = match line.trim() {
        "reload" => {
            let (send, answer) = oneshot::channel();
            if commands.send(Command::Reload(send)).await.is_err() {
                return;
            }
            answer.await.unwrap_or_else(|_| Err(Reason::new("the program is stopping")))
        }
        other => Err(Reason::new(format!("unknown command {other:?}"))),
    };
    if let Ok(mut line) = serde_json::to_string(&result) {
        line.push('\n');
        // Whoever asked may have given up.
        let _ = write.write_all(line.as_bytes()).await;
    }
}

/// Tells the inspector that listens on `path` to reload, and waits for the result.
///
/// # Errors
/// Nobody listens, or why the reload was refused.
pub(crate) fn reload(path: &Path) -> Result<Loaded, Error> {
    let at = path.display().to_string();
    let ask = || -> io::Result<String> {
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(b"reload\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    let line = ask().map_err(|e| {
        let what = format!("cannot reach the inspector ({e})");
        StartError::new(what, &at, "is it running, with the same control path?")
    })?;
    let result: Result<Loaded, Reason> = serde_json::from_str(&line).map_err(|_| {
        let what = "no answer: the inspector stopped meanwhile";
        StartError::new(what, &at, "look at its log")
    })?;
    result.map_err(|reason| {
        Reason::new(format!("reload refused, the old rules stay: {reason}")).into()
    })
}
