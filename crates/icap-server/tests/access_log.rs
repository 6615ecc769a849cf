//! What the access log says. Alone in its program: another test's thread, which logs nowhere, could
//! switch the log's places off for this one's too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::io;
use std::sync::{Arc, Mutex};

use common::{connect, local, reqmod, respmod};
use icap_server::{Config, Echo, Router};

/// Where a subscriber writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_access_log_has_a_line_for_each_transaction() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("icap_server::access=debug")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        local(async {
            let router = Router::new().route("/echo", Echo::new());
            let mut client = connect(router, Config::default());
            client.send(respmod("") + "5\r\nhello\r\n0\r\n\r\n").await;
            client.send(reqmod("/nobody", "")).await;
            client.send("OPTIONS icap://h/echo ICAP/1.0\r\nConnection: close\r\n\r\n").await;
            client.rest().await;
        });
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, words) in lines.iter().zip([
        ["method=RESPMOD", "uri=\"icap://h/echo\"", "status=200", "body_in=5", "body_out=5"],
        ["method=REQMOD", "uri=\"icap://h/nobody\"", "status=404", "body_in=0", "body_out=0"],
        ["method=OPTIONS", "uri=\"icap://h/echo\"", "status=200", "body_in=0", "body_out=0"],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        assert!(line.contains("microseconds="), "{line}");
    }
}
