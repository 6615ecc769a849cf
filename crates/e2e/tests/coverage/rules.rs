//! Rules, read as far as is needed to tell what they are about.

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Http,
    Name,
    Certificate,
    Ja3,
    OtherTls,
    Dns,
    Tcp,
    Mail,
    Ftp,
    Smb,
    Ssh,
    Ip,
    Udp,
    Icmp,
}

impl Class {
    pub(crate) const ALL: [Self; 14] = [
        Self::Http,
        Self::Name,
        Self::Certificate,
        Self::Ja3,
        Self::OtherTls,
        Self::Dns,
        Self::Tcp,
        Self::Mail,
        Self::Ftp,
        Self::Smb,
        Self::Ssh,
        Self::Ip,
        Self::Udp,
        Self::Icmp,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "`http`",
            Self::Name => "`tls`, the server's name",
            Self::Certificate => "`tls`, certificates",
            Self::Ja3 => "`tls`, JA3 of the client",
            Self::OtherTls => "`tls`, JA3S and the rest",
            Self::Dns => "`dns`",
            Self::Tcp => "`tcp`",
            Self::Mail => "`smtp`",
            Self::Ftp => "`ftp`, `ftp-data`",
            Self::Smb => "`smb`",
            Self::Ssh => "`ssh`",
            Self::Ip => "`ip`",
            Self::Udp => "`udp`",
            Self::Icmp => "`icmp`",
        }
    }

    pub(crate) fn can_match(self) -> bool {
        !matches!(self, Self::Udp | Self::Icmp)
    }

    /// Where its traffic is seen.
    pub(crate) fn by(self) -> &'static str {
        match self {
            Self::Http => "HTTP of either version, by its form of HTTP/1",
            Self::Name | Self::Certificate | Self::Ja3 => "handshakes (`tls.mirror`), and streams",
            Self::OtherTls => "handshakes; JA3S of an intercepted one answers our hello",
            Self::Dns => "DNS over HTTPS, and streams to port 53; not UDP",
            Self::Tcp => "streams, and HTTP/1 bytes",
            Self::Mail | Self::Ftp | Self::Smb | Self::Ssh | Self::Ip => "streams",
            Self::Udp | Self::Icmp => "nowhere: what is led here is TCP",
        }
    }
}

/// A rule of a set.
pub(crate) struct Rule {
    pub(crate) class: Class,
    pub(crate) sid: u32,
    /// Without its action.
    pub(crate) text: String,
    /// Of the header: where from and where to.
    pub(crate) ports: [String; 2],
    pub(crate) options: Vec<(String, String)>,
}

impl Rule {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let text = line.strip_prefix("alert ")?;
        let (header, body) = text.split_once(" (")?;
        let words = header.split_ascii_whitespace().collect::<Vec<_>>();
        let options = options(body.trim_end().strip_suffix(')')?);
        let of = |name: &str| options.iter().find(|(n, _)| n == name).map(|(_, value)| value);
        let sid = of("sid")?.parse().ok()?;
        let has = |names: &[&str]| options.iter().any(|(n, _)| names.contains(&n.as_str()));
        let class = match words[0] {
            "http" => Class::Http,
            "tls" if has(&["ja3.hash", "ja3_hash", "ja3.string"]) => Class::Ja3,
            "tls" if has(&["tls.sni", "tls_sni"]) => Class::Name,
            "tls" if options.iter().any(|(n, _)| n.starts_with("tls.cert")) => Class::Certificate,
            "tls" => Class::OtherTls,
            "dns" => Class::Dns,
            "smtp" => Class::Mail,
            "ftp" | "ftp-data" => Class::Ftp,
            "smb" => Class::Smb,
            "ssh" => Class::Ssh,
            "ip" => Class::Ip,
            "udp" => Class::Udp,
            "icmp" => Class::Icmp,
            _ => Class::Tcp,
        };
        Some(Self {
            class,
            sid,
            text: text.to_owned(),
            ports: [words[2].to_owned(), words[5].to_owned()],
            options,
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| n == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether it has no options but these and those that only tell of it.
    pub(crate) fn has_only(&self, names: &[&str]) -> bool {
        const TELLING: [&str; 8] =
            ["msg", "classtype", "reference", "sid", "rev", "metadata", "priority", "gid"];
        self.options
            .iter()
            .all(|(n, _)| names.contains(&n.as_str()) || TELLING.contains(&n.as_str()))
    }
}

/// `name:value;` and `name;`, where a `;` of a value stands behind a backslash.
fn options(text: &str) -> Vec<(String, String)> {
    let mut options = Vec::new();
    let (mut option, mut escaped) = (String::new(), false);
    for c in text.chars() {
        if c == ';' && !escaped {
            let (name, value) = option.split_once(':').unwrap_or((&option, ""));
            options.push((name.trim().to_owned(), value.trim().to_owned()));
            option.clear();
            continue;
        }
        escaped = c == '\\' && !escaped;
        option.push(c);
    }
    options
}

/// The bytes of a `content`, if it is not negated.
pub(crate) fn bytes(value: &str) -> Option<Vec<u8>> {
    let text = value.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = Vec::new();
    for (number, part) in text.split('|').enumerate() {
        match number % 2 {
            0 => {
                let mut chars = part.bytes();
                while let Some(byte) = chars.next() {
                    out.push(if byte == b'\\' { chars.next()? } else { byte });
                }
            }
            _ => {
                let digits = part.bytes().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<_>>();
                for pair in digits.chunks(2) {
                    let pair = std::str::from_utf8(pair).ok()?;
                    out.push(u8::from_str_radix(pair, 16).ok()?);
                }
            }
        }
    }
    Some(out)
}
