//! An origin whose key is too weak is refused, whatever the rules say of certificates that are not
//! valid: its handshake proves nothing.

use std::process::Command;

use e2e::{Curl, Gateway, Port, Process, peers};
use tempfile::TempDir;

#[test]
fn an_rsa_key_of_1024_bits_is_refused_in_each_mode() {
    let folder = TempDir::new().unwrap();
    let openssl = |words: &str| {
        let mut openssl = Command::new(peers::program("openssl"));
        let output = openssl.args(words.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=Origins \
         -keyout ca.key -out ca.pem",
    );
    openssl(
        "req -x509 -newkey rsa:1024 -nodes -days 30 -subj /CN=localhost -keyout weak.key \
         -out weak.pem -addext subjectAltName=DNS:localhost \
         -addext basicConstraints=critical,CA:FALSE -CA ca.pem -CAkey ca.key",
    );
    let port = Port::claim();
    let mut command = Command::new(peers::program("openssl"));
    command.current_dir(folder.path()).args(["s_server", "-www", "-cert", "weak.pem"]).args([
        "-key",
        "weak.key",
        "-cipher",
        "DEFAULT@SECLEVEL=0",
        "-accept",
        &port.addr().to_string(),
    ]);
    let mut server = Process::start("openssl", &mut command);
    server.wait_for_port(port.addr());
    for mode in ["refuse", "mimic", "allow"] {
        let gateway = Gateway::with_settings(
            &format!(
                "[[listen]]\naddress = \"127.0.0.1:0\"\n[[rule]]\ninvalid_certificate = \"{mode}\"\n"
            ),
            ["--upstream-ca", &folder.path().join("ca.pem").display().to_string()],
        );
        let curl = Curl::through(gateway.proxy()).trust(&gateway.authority());
        let fetched = curl.run(&format!("https://localhost:{}/", port.number()));
        fetched.expect_status(502);
        let page = fetched.text();
        assert!(page.contains("No secure connection") && page.contains("BadSignature"), "{page}");
    }
}
