//! `[[rule]]`: what becomes of connections and requests.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use super::http::Ranges;
use super::tls_versions::TlsVersion;
use super::value::{fingerprints, networks};
use crate::words::Speech;

/// One rule. All conditions that are set must hold, and one entry of a list is enough; the first
/// rule that matches decides. Without a match: intercept, with the default chain.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// How logs and pages call it; `rule N` by default.
    pub name: Option<String>,

    /// Client addresses: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
    #[serde(deserialize_with = "networks")]
    pub client: Vec<IpNet>,
    /// Users, as they authenticated.
    pub user: Vec<String>,
    /// Host names: `example.org` alone, `*.example.org` for it and every name below it; `*`
    /// anywhere else stands for any characters (`ads*.example.org`).
    pub host: Vec<String>,
    /// Files with a host name a line, like `host` but without patterns; `#` begins a comment.
    pub host_file: Vec<PathBuf>,
    /// Destination addresses, where they are known before the name is resolved: redirected
    /// connections, and targets that are addresses.
    #[serde(deserialize_with = "networks")]
    pub address: Vec<IpNet>,
    /// Destination ports.
    pub port: Vec<u16>,
    /// What is spoken: TLS and what is inside it are two, and either will do. It is known when the first
    /// bytes have come.
    pub protocol: Vec<Speech>,
    /// Request methods. Like `path`, it can be told only after interception.
    pub method: Vec<String>,
    /// Request paths without the query: `/admin` alone, `/admin*` for all that begin so; `*` stands
    /// for any characters. Those of requests are percent-decoded first.
    pub path: Vec<String>,
    /// Content types of responses, without parameters: `text/html`, `image/*`. It can be told only
    /// when the response's head has come: then the rules are asked once more. A response without
    /// a type has an empty one.
    pub content_type: Vec<String>,
    /// Issuers of origins' certificates, as `C=US, O=Example, CN=Example R1`; `*` stands for any
    /// characters, case is not told apart. Like `certificate_fingerprint`, it can be told only of
    /// intercepted connections, after the handshake with the origin.
    pub certificate_issuer: Vec<String>,
    /// SHA-256 of origins' certificates, in hexadecimal, with or without colons.
    #[serde(deserialize_with = "fingerprints")]
    pub certificate_fingerprint: Vec<[u8; 32]>,

    /// That it has no conditions is meant: a reload may bring it.
    pub all: bool,
    /// What to do.
    pub action: Action,
    /// The `[[icap.chain]]` that transactions take instead of the default one.
    pub chain: Option<String>,
    /// Whether what is said on the connection is captured, decrypted (`[capture]`). Decided for
    /// connections, like `upstream_proxy`; for intercepted ones when the certificate is known.
    pub capture: bool,
    /// What becomes of intercepted connections whose origin shows an invalid certificate.
    pub invalid_certificate: InvalidCertificate,
    /// The `[[upstream_proxy]]` through which the origin is reached, instead of
    /// `upstream.proxy`; `direct` for none. Decided for connections: conditions on requests,
    /// responses or certificates have no say in it.
    pub upstream_proxy: Option<String>,
    /// What becomes of requests for a part of a resource, instead of `http.ranges`.
    pub ranges: Option<Ranges>,
    /// Protocols that requests may upgrade to, instead of `http.upgrades`.
    pub upgrades: Option<Vec<String>>,
    /// The `[[client_certificate]]` shown to origins that ask for one.
    pub client_certificate: Option<String>,
    /// What becomes of connections whose origin asks for a certificate when none is set.
    pub certificate_asked: CertificateAsked,
    /// How much of TLS handshakes services that take streams are shown, instead of `tls.mirror`.
    /// Decided for connections, like `upstream_proxy`.
    pub mirror: Option<Mirror>,
    /// The oldest version of TLS that is spoken, instead of the listener's or `tls.min`. Decided for connections, like
    /// `upstream_proxy`.
    pub tls_min: Option<TlsVersion>,
    /// The newest one.
    pub tls_max: Option<TlsVersion>,
    /// What becomes of connections whose TLS can't be intercepted.
    pub unsupported_tls: UnsupportedTls,
    /// What becomes of connections of clients that keep refusing the forged certificates of this
    /// host, although they take those of others.
    pub pinned: Pinned,
}

impl Rule {
    /// Whether it has no condition, or none that (nearly) anything fails.
    pub(crate) fn is_for_all(&self) -> bool {
        let names_hosts = !self.host.is_empty() || !self.host_file.is_empty();
        let some = [
            excludes(&self.client, is_every_address),
            !self.user.is_empty(),
            names_hosts && !self.host.iter().any(|host| is_every_text(host)),
            excludes(&self.address, is_every_address),
            !self.port.is_empty(),
            !self.protocol.is_empty(),
            !self.method.is_empty(),
            excludes(&self.path, |text| is_every_text(text)),
            excludes(&self.content_type, |text| is_every_text(text)),
            excludes(&self.certificate_issuer, |text| is_every_text(text)),
            !self.certificate_fingerprint.is_empty(),
        ];
        !some.contains(&true)
    }
}

/// Whether a list of what a condition asks for leaves anything out.
fn excludes<T>(list: &[T], is_every: impl Fn(&T) -> bool) -> bool {
    !list.is_empty() && !list.iter().any(is_every)
}

/// Whether a pattern names nothing: `*`, `/*`, `*.*`.
fn is_every_text(pattern: &str) -> bool {
    pattern.contains('*') && pattern.bytes().all(|b| matches!(b, b'*' | b'.' | b'/'))
}

/// Whether a network has all addresses of its family.
fn is_every_address(network: &IpNet) -> bool {
    network.prefix_len() == 0
}

/// Whether a pattern for hosts leaves none out.
pub(crate) fn is_every_host(pattern: &str) -> bool {
    pattern.contains('*') && pattern.bytes().all(|b| b == b'*')
}

/// A certificate for origins that ask for one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// How rules call it.
    pub name: String,
    /// The certificate and its chain, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// What becomes of a connection whose origin asks for a certificate when none is set. The greater
/// lets less pass.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum CertificateAsked {
    /// It is bypassed, so that the client may show its own.
    Bypass,
    /// None is shown, and the origin decides.
    #[default]
    Ignore,
    /// The client sees a page that says so.
    Refuse,
}

/// What becomes of a connection whose client pins the origin's certificate. The greater lets less
/// pass.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Pinned {
    /// It is bypassed.
    Bypass,
    /// It is intercepted like any other, and fails.
    #[default]
    Intercept,
}

/// How much of a TLS handshake the services that take streams are shown. The greater is more.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Mirror {
    /// Nothing.
    Off,
    /// The client's hello.
    Hello,
    /// The client's hello, the server's, and the certificates.
    #[default]
    Full,
}

/// What becomes of a connection whose TLS can't be intercepted: the origin takes no version or cipher suite that it is
/// offered. The greater lets less pass.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum UnsupportedTls {
    /// It is bypassed.
    Bypass,
    /// The client sees a page that says so.
    #[default]
    Refuse,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Answer with a page that says so (or cut what is not HTTP).
    Block,
    /// Let it pass without looking into it. Its bytes are counted as uninspected.
    Bypass,
    /// Decrypt and inspect.
    #[default]
    Intercept,
    /// Cut the connection.
    Reset,
}

impl Action {
    /// The word for it in settings and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Bypass => "bypass",
            Self::Intercept => "intercept",
            Self::Reset => "reset",
        }
    }
}

/// What becomes of a connection whose origin shows an invalid certificate.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "snake_case")]
pub enum InvalidCertificate {
    /// It is believed all the same: the client sees a certificate that it trusts.
    Allow,
    /// The connection is bypassed: the client sees the origin's own certificate, and decides.
    Bypass,
    /// The client sees a certificate with the same fault, and decides.
    Mimic,
    /// The client sees a page that says what is wrong.
    #[default]
    Refuse,
}
