//! What samples of rules are about, as bytes on a stream.

use std::sync::Arc;

use e2e::pki::{Authority, Identity};
use icap_client::Way;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use crate::rules::{Class, Rule, bytes};

/// One rule, and what it is about.
pub(crate) struct Sample {
    pub(crate) sid: u32,
    pub(crate) class: Class,
    /// As one that drops.
    pub(crate) rule: String,
    pub(crate) client_port: u16,
    pub(crate) server_port: u16,
    pub(crate) steps: Vec<(Way, Vec<u8>)>,
}

/// At most so many of each class.
const MOST: [(Class, usize); 5] = [
    (Class::Name, 200),
    (Class::Certificate, 50),
    (Class::Ja3, 95),
    (Class::Dns, 500),
    (Class::Tcp, 200),
];

/// Those for which something can be made, spread over all of them.
pub(crate) fn choose(all: &[Rule]) -> Vec<Sample> {
    let makers = Makers::new();
    let mut chosen = Vec::new();
    for (class, most) in MOST {
        let fit = all.iter().filter(|rule| rule.class == class);
        let fit = fit.filter(|rule| makers.fits(rule)).collect::<Vec<_>>();
        let every = (fit.len() / most).max(1);
        let of = fit.into_iter().step_by(every).take(most);
        chosen.extend(of.filter_map(|rule| makers.make(rule)));
    }
    chosen
}

struct Makers {
    authority: Authority,
}

impl Makers {
    fn new() -> Self {
        Self { authority: Authority::new("Servers") }
    }

    /// Whether a sample can be made, told without making it.
    fn fits(&self, rule: &Rule) -> bool {
        ports(rule).is_some()
            && match rule.class {
                Class::Name => {
                    named(rule, &["tls.sni", "tls_sni"], &["bsize"]).is_some_and(|n| is_name(&n))
                }
                Class::Certificate => subject(rule).is_some(),
                Class::Ja3 => {
                    rule.options.iter().filter(|(name, _)| name == "content").count() == 1
                }
                Class::Dns => named(rule, &["dns.query", "dns_query"], &["bsize"])
                    .is_some_and(|n| is_name(&n)),
                Class::Tcp => payload(rule).is_some(),
                _ => false,
            }
    }

    fn make(&self, rule: &Rule) -> Option<Sample> {
        let mut text = format!("drop {}\n", rule.text);
        let (client_port, server_port) = ports(rule)?;
        let steps = match rule.class {
            Class::Name => {
                let name = named(rule, &["tls.sni", "tls_sni"], &["bsize"])?;
                vec![handshake(&full(rule, &name), None).swap_remove(0)]
            }
            Class::Certificate => {
                let (kind, value) = subject(rule)?;
                let identity = self.authority.leaf_with(&["a.example"], |params| {
                    params.distinguished_name = rcgen::DistinguishedName::new();
                    params.distinguished_name.push(kind, value);
                });
                handshake("a.example", Some(&identity))
            }
            Class::Ja3 => {
                // The hash can't be turned back into a hello: it is replaced by that of ours.
                let (_, hash) = rule.options.iter().find(|(name, _)| name == "content")?;
                text = text.replace(hash, &format!("\"{JA3}\""));
                for quiet in ["flowbits:noalert;", "flowbits: noalert;"] {
                    text = text.replace(quiet, "");
                }
                vec![(Way::ToServer, plain_hello())]
            }
            Class::Dns => {
                let name = named(rule, &["dns.query", "dns_query"], &["bsize"])?;
                vec![(Way::ToServer, query(&full(rule, &name)))]
            }
            _ => {
                let way = way(rule);
                let other = if way == Way::ToServer { Way::ToClient } else { Way::ToServer };
                let mut steps = vec![(way, payload(rule)?)];
                if rule.has("flow") && way == Way::ToClient {
                    steps.insert(0, (other, b"\x01".to_vec()));
                }
                steps
            }
        };
        let (sid, class) = (rule.sid, rule.class);
        Some(Sample { sid, class, rule: text, client_port, server_port, steps })
    }
}

/// What one content of a rule over one of these buffers asks for.
fn named(rule: &Rule, keywords: &[&str], more: &[&str]) -> Option<String> {
    let fine = ["flow", "content", "nocase", "fast_pattern", "endswith", "startswith", "depth"];
    let known = [&fine[..], keywords, more].concat();
    let contents = rule.options.iter().filter(|(name, _)| name == "content").count();
    let is_one = contents == 1 && rule.has_only(&known) && keywords.iter().any(|k| rule.has(k));
    let value = if is_one { rule.value("content")? } else { return None };
    String::from_utf8(bytes(value)?).ok()
}

/// A whole name: with a label in front where the rule wants the end of one.
fn full(rule: &Rule, name: &str) -> String {
    let is_whole = ["bsize", "startswith", "depth"].iter().any(|word| rule.has(word));
    match name.strip_prefix('.') {
        Some(_) => format!("x{name}"),
        None if is_whole || rule.has("endswith") => name.to_owned(),
        None => format!("{name}.example").replace("..", "."),
    }
}

fn is_name(name: &str) -> bool {
    let name = name.trim_matches('.');
    name.contains('.')
        && name.len() < 200
        && name.split('.').all(|label| {
            (1..64).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).expect("a label"));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    let length = u16::try_from(message.len()).expect("a message");
    [&length.to_be_bytes()[..], &message].concat()
}

/// A field of a subject that a rule asks for.
fn subject(rule: &Rule) -> Option<(rcgen::DnType, String)> {
    let content = named(rule, &["tls.cert_subject"], &[])?;
    let (kind, value) = content.split_once('=')?;
    let kind = match kind {
        "CN" => rcgen::DnType::CommonName,
        "O" => rcgen::DnType::OrganizationName,
        "OU" => rcgen::DnType::OrganizationalUnitName,
        _ => return None,
    };
    let is_plain = !value.is_empty()
        && value.len() < 60
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b" .-".contains(&b));
    let fits = is_plain && !value.ends_with(' ');
    fits.then(|| (kind, value.to_owned()))
}

/// Which way the bytes of a rule go.
fn way(rule: &Rule) -> Way {
    let flow = rule.value("flow").unwrap_or_default();
    match flow.contains("to_client") || flow.contains("from_server") {
        true => Way::ToClient,
        false => Way::ToServer,
    }
}

/// The ports of the client and of the server, so that the header holds.
fn ports(rule: &Rule) -> Option<(u16, u16)> {
    let port = |text: &str, any: u16| match text {
        "any" => Some(any),
        "$HTTP_PORTS" => Some(8080),
        text => {
            let first = text.trim_matches(['[', ']']).split([',', ':']).next()?;
            first.parse().ok()
        }
    };
    let usual = match rule.class {
        Class::Dns => 53,
        Class::Tcp => 9_999,
        _ => 443,
    };
    let [from, to] = &rule.ports;
    match way(rule) {
        Way::ToServer => Some((port(from, 40_000)?, port(to, usual)?)),
        Way::ToClient => Some((port(to, 40_000)?, port(from, usual)?)),
    }
}

/// Bytes in which the contents of a rule follow on each other.
fn payload(rule: &Rule) -> Option<Vec<u8>> {
    let known = [
        "flow",
        "content",
        "nocase",
        "fast_pattern",
        "depth",
        "offset",
        "distance",
        "within",
        "startswith",
        "endswith",
        "rawbytes",
    ];
    let flow = rule.value("flow").unwrap_or_default();
    if !rule.has_only(&known) || flow.contains("stateless") || flow.contains("not_established") {
        return None;
    }
    let mut out: Vec<u8> = Vec::new();
    let mut options = rule.options.iter().peekable();
    while let Some((name, value)) = options.next() {
        if name != "content" {
            continue;
        }
        let content = bytes(value)?;
        let (mut gap, mut at) = (0, None);
        while let Some((name, value)) = options.next_if(|(name, _)| name != "content") {
            match name.as_str() {
                "distance" => gap = value.parse::<i64>().ok()?.max(0),
                "offset" => at = Some(value.parse::<usize>().ok()?),
                _ => {}
            }
        }
        let end = out.len() + usize::try_from(gap).ok()?;
        out.resize(end.max(at.unwrap_or(0)), b'_');
        out.extend_from_slice(&content);
    }
    let looks_like_http = [&b"HTTP/"[..], b"GET ", b"POST ", b"PUT ", b"HEAD "];
    let is_http = looks_like_http.iter().any(|word| out.starts_with(word));
    (!out.is_empty() && !is_http).then_some(out)
}

/// What client and server say of TLS 1.2 up to its certificate; without one, what the client says.
fn handshake(name: &str, identity: Option<&Identity>) -> Vec<(Way, Vec<u8>)> {
    let provider = Arc::new(default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("a version")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    let mut steps = vec![(Way::ToServer, hello.clone())];
    if let Some(identity) = identity {
        let certificates = CertificateDer::pem_slice_iter(identity.certificates.as_bytes());
        let certificates = certificates.collect::<Result<_, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("a version")
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .expect("a certificate");
        let mut server = ServerConnection::new(Arc::new(config)).expect("a server");
        server.read_tls(&mut hello.as_slice()).expect("read");
        server.process_new_packets().expect("a hello");
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).expect("a flight");
        }
        steps.push((Way::ToClient, flight));
    }
    steps
}

/// The JA3 of the hello below: the MD5 of `771,49195,0-10-11,29,0`, its version, cipher suites, extensions, groups and
/// formats of points.
const JA3: &str = "b0b4834a822809882cd601cec59ddec2";

/// A ClientHello that is always the same.
fn plain_hello() -> Vec<u8> {
    let extensions = [
        &[0, 0, 0, 14, 0, 12, 0, 0, 9][..],
        b"a.example",
        &[0, 10, 0, 4, 0, 2, 0, 29],
        &[0, 11, 0, 2, 1, 0],
    ];
    let extensions = extensions.concat();
    let length =
        |of: &[u8], more: usize| u16::try_from(of.len() + more).expect("short").to_be_bytes();
    let message =
        [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0], &length(&extensions, 0), &extensions];
    let message = message.concat();
    [&[22, 3, 1][..], &length(&message, 4), &[1, 0], &length(&message, 0), &message].concat()
}
