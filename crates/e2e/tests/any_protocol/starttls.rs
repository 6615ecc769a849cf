//! Streams that go over to TLS by agreement: what is inside is inspected, and nothing is slipped in before it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::sync_channel;

use e2e::pki::Authority;
use e2e::process::DEADLINE;
use e2e::{Port, Process, peers};
use tempfile::TempDir;

use super::peers::{must, run, text};
use super::{BAD, SID, Setup, accept, read_all, serve, tls_client, tls_server, to};

/// What is said in the clear, in turn: the server's first, which may be nothing.
type Talk = &'static [&'static [u8]];

const MYSQL: &[u8] = b"\x20\0\0\x01\x85\xae\x03\0\0\0\0\x01\x2d\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const PROTOCOLS: &[(&str, Talk)] = &[
    (
        "smtp",
        &[
            b"220 mx\r\n",
            b"EHLO a\r\n",
            b"250-mx\r\n250 STARTTLS\r\n",
            b"STARTTLS\r\n",
            b"220 go\r\n",
        ],
    ),
    ("imap", &[b"* OK here\r\n", b"a STARTTLS\r\n", b"a OK begin\r\n"]),
    ("pop3", &[b"+OK here\r\n", b"STLS\r\n", b"+OK begin\r\n"]),
    ("ftp", &[b"220 here\r\n", b"AUTH TLS\r\n", b"234 go on\r\n"]),
    ("nntp", &[b"200 here\r\n", b"STARTTLS\r\n", b"382 go on\r\n"]),
    ("sieve", &[b"OK\r\n", b"STARTTLS\r\n", b"OK \"go on\"\r\n"]),
    (
        "ldap",
        &[
            b"",
            b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037",
            b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
        ],
    ),
    (
        "xmpp",
        &[
            b"",
            b"<stream:stream xmlns='jabber:client' version='1.0' to='a'>",
            b"<stream:stream xmlns='jabber:client' id='1'><stream:features/>",
            b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        ],
    ),
    ("postgresql", &[b"", b"\0\0\0\x08\x04\xd2\x16\x2f", b"S"]),
    ("mysql", &[b"\x10\0\0\0\x0a5.5.5-10\0\0\0\0\0\0\0", MYSQL]),
];

/// Says the turns that are one's own, and hears the others.
fn talk(socket: &mut TcpStream, said: &[&[u8]], is_server: bool) -> std::io::Result<()> {
    for (n, turn) in said.iter().enumerate() {
        if (n % 2 == 0) == is_server {
            socket.write_all(turn)?;
        } else {
            let mut heard = vec![0; turn.len()];
            socket.read_exact(&mut heard)?;
            assert_eq!(heard, *turn, "nothing is changed");
        }
    }
    Ok(())
}

/// A server that says this in the clear and then speaks TLS, in which it gives back what it gets.
fn server(authority: &Authority, said: &'static [&'static [u8]]) -> std::net::SocketAddr {
    let config = tls_server(&authority.leaf(&["localhost"]), &[]);
    serve(move |mut socket| {
        if talk(&mut socket, said, true).is_err() {
            return;
        }
        let mut stream = accept(&config, socket);
        let mut buffer = [0; 1000];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn what_follows_the_agreement_is_inspected_in_all_protocols() {
    let authority = Authority::new("Servers");
    for (name, said) in PROTOCOLS {
        println!("{name}");
        let mut setup = Setup::trusting(&to(server(&authority, said).port()), &authority);
        let begin = |setup: &Setup| {
            let mut client = setup.connect();
            talk(&mut client, said, false).unwrap();
            tls_client(client, &setup.gateway.authority(), &[])
        };
        // The gateway's certificate: what the client trusts.
        let mut client = begin(&setup);
        for question in [&b"NOOP\r\n"[..], &[b'y'; 900], b"\0\xff"] {
            client.write_all(question).unwrap();
            let mut back = vec![0; question.len()];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, question);
        }
        client.conn.send_close_notify();
        client.flush().unwrap();
        assert_eq!(read_all(&mut client).0, b"");
        let record = setup.record(|record| record["mirror"]["outcome"] == "passed");
        assert_eq!(record["tls"]["sni"], "localhost", "{record}");

        let mut client = begin(&setup);
        let sent = client.write_all(BAD).and_then(|()| client.flush());
        let (got, in_order) = read_all(&mut client);
        assert!(got.is_empty() && (sent.is_err() || !in_order), "{}", got.escape_ascii());
        let record = setup.ended("stream-blocked");
        assert_eq!(record["block"]["signature_id"], SID);
    }
}

#[test]
fn what_is_slipped_in_before_the_handshake_is_no_agreement() {
    let authority = Authority::new("Servers");
    let cases: &[Talk] = &[
        // The client's, which its server could take for something said in TLS, and the server's.
        &[b"220 mx\r\n", b"STARTTLS\r\nRSET\r\n", b"220 go\r\n"],
        &[b"220 mx\r\n", b"STARTTLS\r\n", b"220 go\r\n250 done\r\n"],
        &[b"* OK here\r\n", b"a STARTTLS\r\nb NOOP\r\n", b"a OK begin\r\n"],
        &[b"* OK here\r\n", b"a STARTTLS\r\n", b"a OK begin\r\n* CAPABILITY IMAP4rev1\r\n"],
        &[b"+OK here\r\n", b"STLS\r\n", b"+OK begin\r\n+OK\r\n"],
        &[b"", b"\0\0\0\x08\x04\xd2\x16\x2f", b"SE"],
        &[b"", b"\0\0\0\x08\x04\xd2\x16\x2f\0", b"S"],
        // Without an agreement.
        &[b"220 mx\r\n", b"STARTTLS\r\n", b"454 not now\r\n"],
        &[b"220 mx\r\n", b"NOOP\r\n", b"220 go\r\n"],
    ];
    for said in cases {
        let mut setup = Setup::trusting(&to(server(&authority, said).port()), &authority);
        let mut client = setup.connect();
        talk(&mut client, said, false).unwrap();
        let mut client = tls_client(client, &setup.gateway.authority(), &[]);
        assert!(client.read(&mut [0; 8]).is_err());
        setup.ended("tls-inside");
    }

    // What the server says behind its agreement while the client says hello is not TLS either.
    let (tell, told) = sync_channel(1);
    let addr = serve(move |mut socket| {
        let said: Talk = &[b"220 mx\r\n", b"STARTTLS\r\n", b"220 go\r\n"];
        talk(&mut socket, said, true).unwrap();
        // Our hello has come.
        socket.read_exact(&mut [0; 1]).unwrap();
        let _ = socket.write_all(b"250 done\r\n");
        tell.send(()).unwrap();
    });
    let setup = Setup::trusting(&to(addr.port()), &authority);
    let mut client = setup.connect();
    talk(&mut client, &[b"220 mx\r\n", b"STARTTLS\r\n", b"220 go\r\n"], false).unwrap();
    let mut client = tls_client(client, &setup.gateway.authority(), &[]);
    let _ = client.write_all(b"QUIT\r\n");
    assert_eq!(read_all(&mut client).0, b"");
    told.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn rules_and_failures_hold_for_tls_that_is_agreed_on() {
    let authority = Authority::new("Servers");
    let said: Talk = &[b"220 mx\r\n", b"STARTTLS\r\n", b"220 go\r\n"];
    let port = server(&authority, said).port();
    let begin = |setup: &Setup| {
        let mut client = setup.connect();
        talk(&mut client, said, false).unwrap();
        client
    };
    // A rule for TLS that leads past us: nobody looks into it, which is counted.
    let bypass = "[[rule]]\nprotocol = [\"tls\"]\naction = \"bypass\"\n";
    let mut setup = Setup::trusting_with(&to(port), bypass, &authority);
    let at = setup.folder.path().join("authority.pem");
    let mut client = tls_client(begin(&setup), &at, &[]);
    client.write_all(BAD).unwrap();
    let mut back = vec![0; BAD.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, BAD);
    drop(client);
    let record = setup.record(|record| record["action"] == "bypass");
    assert_eq!(record["mirror"]["outcome"], "passed", "{record}");
    let bypassed = "meergate_uninspected_bytes_total{reason=\"bypass\",direction=\"to_server\"}";
    assert!(setup.metric(bypassed) > BAD.len() as u64);

    // What is known only by a handshake of ours: there is no other connection on which they agreed.
    let invalid = "[[rule]]\ninvalid_certificate = \"bypass\"\n";
    let mut setup = Setup::start(&to(port), invalid);
    let mut client = tls_client(begin(&setup), &at, &[]);
    assert!(client.read(&mut [0; 8]).is_err());
    setup.ended("tls-inside");

    let reset = "[[rule]]\nhost = [\"localhost\"]\naction = \"reset\"\n";
    let mut setup = Setup::trusting_with(&to(port), reset, &authority);
    let mut client = tls_client(begin(&setup), &setup.gateway.authority(), &[]);
    assert!(client.read(&mut [0; 8]).is_err());
    setup.ended("reset");

    // A certificate that is not valid, and a handshake without a service.
    let mut setup = Setup::target(port);
    let mut client = tls_client(begin(&setup), &setup.gateway.authority(), &[]);
    let _ = client.write_all(b"NOOP\r\n");
    assert_eq!(read_all(&mut client).0, b"");
    setup.ended("origin-unreachable");
    let mut setup = Setup::trusting(&to(port), &authority);
    let client = begin(&setup);
    setup.inspector.process.kill_group();
    let inspector = setup.inspector.addr();
    setup
        .gateway
        .process
        .wait_until("all of the inspector to end", || TcpStream::connect(inspector).is_err());
    let mut client = tls_client(client, &setup.gateway.authority(), &[]);
    let _ = client.write_all(b"NOOP\r\n");
    assert_eq!(read_all(&mut client).0, b"");
    setup.ended_by(&["not-inspected", "origin-unreachable"]);
}

/// A folder that a server's own user reads.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn certificate(authority: &Authority, folder: &Path) -> (String, String) {
    let (certificate, key) = authority.leaf(&["localhost", "127.0.0.1"]).write(folder);
    (certificate.display().to_string(), key.display().to_string())
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

const MAIL: &str = "From: a@a.test\r\nTo: b@b.test\r\nSubject: mail\r\n\r\n";

/// Dovecot, with mails of which the last one is bad.
struct Dovecot {
    _process: Process,
    imap: Port,
    pop3: Port,
    mails: Vec<String>,
    _folder: TempDir,
}

impl Dovecot {
    fn start(authority: &Authority) -> Self {
        let (folder, imap, pop3) = (folder(), Port::claim(), Port::claim());
        let at = folder.path().display().to_string();
        let (certificate, key) = certificate(authority, folder.path());
        let new = folder.path().join("home/Maildir/new");
        fs::create_dir_all(&new).unwrap();
        let bodies = ["a line of text\r\n".repeat(5_000), text(BAD) + "\r\n"];
        let mails: Vec<String> = bodies.iter().map(|body| format!("{MAIL}{body}")).collect();
        for (n, mail) in mails.iter().enumerate() {
            fs::write(new.join(format!("{}.host", n + 1)), mail).unwrap();
        }
        let who: &[&str] = if is_root() { &["nobody"] } else { &[] };
        let id = |flag: &str| must(Command::new("id").arg(flag).args(who)).trim().to_owned();
        let (user, group) = (id("-un"), id("-gn"));
        peers::give_to(&user, &folder.path().join("home"));
        let users = match is_root() {
            true => String::new(),
            false => format!("default_internal_user = {user}\ndefault_login_user = {user}\n"),
        };
        let config = format!(
            "base_dir = {at}/run\nlog_path = /dev/stderr\nprotocols = imap pop3\n{users}\
             ssl = required\nssl_cert = <{certificate}\nssl_key = <{key}\n\
             first_valid_uid = 1\nmail_location = maildir:{at}/home/Maildir\n\
             passdb {{\n driver = static\n args = password=secret\n}}\n\
             userdb {{\n driver = static\n args = uid={user} gid={group} home={at}/home\n}}\n\
             service anvil {{\n chroot =\n}}\n\
             service imap-login {{\n chroot =\n inet_listener imap {{\n address = 127.0.0.1\n port = {}\n }}\n\
             inet_listener imaps {{\n port = 0\n }}\n}}\n\
             service pop3-login {{\n chroot =\n inet_listener pop3 {{\n address = 127.0.0.1\n port = {}\n }}\n\
             inet_listener pop3s {{\n port = 0\n }}\n}}\n",
            imap.number(),
            pop3.number(),
        );
        fs::write(folder.path().join("dovecot.conf"), config).unwrap();
        let mut command = Command::new(peers::program("dovecot"));
        command.args(["-F", "-c"]).arg(folder.path().join("dovecot.conf"));
        let mut process = Process::start("dovecot", &mut command);
        process.wait_for("dovecot's start", |line| line.contains("starting up").then_some(()));
        Self { _process: process, imap, pop3, mails, _folder: folder }
    }
}

#[test]
fn mails_of_dovecot_over_imap_and_pop3() {
    let authority = Authority::new("Servers");
    let dovecot = Dovecot::start(&authority);
    for (scheme, port, last) in
        [("imap", dovecot.imap.number(), "INBOX;MAILINDEX="), ("pop3", dovecot.pop3.number(), "")]
    {
        let mut setup = Setup::trusting(&to(port), &authority);
        let gateway = setup.gateway.proxy().port();
        let fetch = |n: usize| {
            let mut curl = peers::client("curl");
            curl.args(["--silent", "--show-error", "--max-time", "60", "--ipv4", "--ssl-reqd"]);
            curl.args(["--user", "b:secret", "--cacert"]).arg(setup.gateway.authority());
            run(curl.arg(format!("{scheme}://localhost:{gateway}/{last}{n}")))
        };
        let good = fetch(1);
        assert!(good.status.success(), "{scheme}: {}", text(&good.stderr));
        assert!(text(&good.stdout) == dovecot.mails[0], "{scheme}: not what is kept");
        let bad = fetch(2);
        assert!(!bad.status.success() && !text(&bad.stdout).contains(&text(BAD)), "{scheme}");
        let record = setup.ended("stream-blocked");
        assert_eq!(record["block"]["signature_id"], SID, "{scheme}: {record}");
        assert_eq!(record["tls"]["sni"], "localhost");
    }
}

/// Postfix, which keeps what it gets.
struct Postfix {
    _process: Process,
    port: Port,
    folder: TempDir,
}

impl Postfix {
    fn start(authority: &Authority) -> Self {
        let (folder, port) = (folder(), Port::claim());
        let at = folder.path().display().to_string();
        let (certificate, key) = certificate(authority, folder.path());
        for (name, user) in [("queue", "root"), ("data", "postfix"), ("mail", "nobody")] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            peers::give_to(user, &path);
        }
        let id = |flag: &str| must(Command::new("id").args([flag, "nobody"])).trim().to_owned();
        fs::write(
            folder.path().join("main.cf"),
            format!(
                "compatibility_level = 3.6\nqueue_directory = {at}/queue\ndata_directory = {at}/data\n\
                 command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
                 maillog_file = /dev/stdout\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
                 myhostname = mx.test\nmydestination =\nvirtual_mailbox_domains = b.test\n\
                 virtual_mailbox_base = {at}/mail\nvirtual_mailbox_maps = static:b\n\
                 virtual_uid_maps = static:{}\nvirtual_gid_maps = static:{}\nvirtual_minimum_uid = 1\n\
                 smtpd_recipient_restrictions = permit_mynetworks, reject\n\
                 smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {certificate}\n\
                 smtpd_tls_key_file = {key}\n",
                id("-u"),
                id("-g"),
            ),
        )
        .unwrap();
        let master = "smtpd cleanup qmgr rewrite bounce defer trace verify virtual error retry proxymap \
                      anvil tlsmgr postlog";
        let mut services = String::new();
        for name in master.split_whitespace() {
            let (kind, wake, most, program) = match name {
                "smtpd" => ("inet", "-", "-", "smtpd"),
                "qmgr" => ("unix", "300", "1", "qmgr"),
                "tlsmgr" => ("unix", "1000?", "1", "tlsmgr"),
                "cleanup" => ("unix", "-", "0", "cleanup"),
                "rewrite" => ("unix", "-", "-", "trivial-rewrite"),
                "bounce" | "defer" | "trace" => ("unix", "-", "0", "bounce"),
                "retry" | "error" => ("unix", "-", "-", "error"),
                "anvil" | "verify" => ("unix", "-", "1", name),
                "postlog" => ("unix-dgram", "-", "1", "postlogd"),
                other => ("unix", "-", "-", other),
            };
            let private =
                if matches!(name, "smtpd" | "cleanup" | "qmgr" | "postlog") { "n" } else { "-" };
            let service = match name {
                "smtpd" => port.number().to_string(),
                other => other.to_owned(),
            };
            let rights = if name == "virtual" { "n" } else { "-" };
            services += &format!("{service} {kind} {private} {rights} n {wake} {most} {program}\n");
        }
        fs::write(folder.path().join("master.cf"), services).unwrap();
        // Makes the folders that are missing.
        must(Command::new(peers::program("postfix")).arg("-c").arg(folder.path()).arg("check"));
        let mut command = Command::new("/usr/lib/postfix/sbin/master");
        command.arg("-c").arg(folder.path()).arg("-d");
        let mut process = Process::start("postfix", &mut command);
        process.wait_for("postfix's start", |line| line.contains("daemon started").then_some(()));
        Self { _process: process, port, folder }
    }

    /// All mails that it has kept.
    fn kept(&self) -> String {
        fs::read_to_string(self.folder.path().join("mail/b")).unwrap_or_default()
    }
}

#[test]
fn mails_to_postfix() {
    if !is_root() {
        println!("skipped: Postfix runs as root only");
        return;
    }
    let authority = Authority::new("Servers");
    let postfix = Postfix::start(&authority);
    let mut setup = Setup::trusting(&to(postfix.port.number()), &authority);
    let gateway = setup.gateway.proxy().port().to_string();
    let send = |body: &str| {
        let mut swaks = peers::client("swaks");
        swaks.args(["--server", "127.0.0.1", "--port", &gateway, "--tls", "--tls-verify"]);
        swaks.args(["--tls-sni", "localhost", "--tls-ca-path"]).arg(setup.gateway.authority());
        swaks.args(["--from", "a@a.test", "--to", "b@b.test", "--data", &format!("{MAIL}{body}")]);
        run(&mut swaks)
    };
    let body = "a line of text\r\n".repeat(2_000);
    let good = send(&body);
    assert!(good.status.success(), "{}{}", text(&good.stdout), text(&good.stderr));
    let bad = send(&format!("x\r\n{}\r\n", text(BAD)));
    assert!(!bad.status.success(), "{}", text(&bad.stdout));
    let last = send("the last one\r\n");
    assert!(last.status.success(), "{}", text(&last.stdout));
    let record = setup.ended("stream-blocked");
    assert_eq!(record["block"]["signature_id"], SID, "{record}");
    let body = body.replace("\r\n", "\n");
    let mut kept = String::new();
    setup.gateway.process.wait_until("both mails", || {
        kept = postfix.kept();
        kept.contains("the last one") && kept.contains(&body)
    });
    assert!(!kept.contains(&text(BAD)) && kept.matches("Subject: mail").count() == 2, "{kept}");
}

#[test]
fn an_ldap_directory() {
    let authority = Authority::new("Servers");
    let (folder, port) = (folder(), Port::claim());
    let at = folder.path().display().to_string();
    let (certificate, key) = certificate(&authority, folder.path());
    fs::create_dir(folder.path().join("db")).unwrap();
    fs::write(
        folder.path().join("slapd.conf"),
        format!(
            "include /etc/ldap/schema/core.schema\npidfile {at}/pid\nargsfile {at}/args\n\
             TLSCertificateFile {certificate}\nTLSCertificateKeyFile {key}\nsecurity tls=1\n\
             database ldif\nsuffix \"dc=test\"\ndirectory {at}/db\n"
        ),
    )
    .unwrap();
    let url = format!("ldap://127.0.0.1:{}/", port.number());
    let mut command = Command::new(peers::program("slapd"));
    command.args(["-h", &url, "-d", "stats", "-f"]).arg(folder.path().join("slapd.conf"));
    let mut slapd = Process::start("slapd", &mut command);
    slapd.wait_for("slapd's start", |line| line.contains("slapd starting").then_some(()));
    let mut setup = Setup::trusting(&to(port.number()), &authority);
    // For `localhost` it would ask for the machine's name.
    let url = format!("ldap://127.0.0.1:{}/", setup.gateway.proxy().port());
    let search = |filter: &str| {
        let mut command = peers::client("ldapsearch");
        command.env("LDAPTLS_CACERT", setup.gateway.authority());
        command.args(["-ZZ", "-x", "-LLL", "-H", &url, "-b", "", "-s", "base", filter]);
        run(command.arg("namingContexts"))
    };
    let good = search("(objectClass=*)");
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert_eq!(text(&good.stdout), "dn:\nnamingContexts: dc=test\n\n");
    let bad = search(&format!("(cn={})", text(BAD)));
    assert!(!bad.status.success() && bad.stdout.is_empty(), "{}", text(&bad.stdout));
    assert_eq!(setup.ended("stream-blocked")["block"]["signature_id"], SID);
}
