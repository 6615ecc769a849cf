//! Sets of host names: one hash look-up a label, however many names there are.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use start_error::StartError;

use crate::config::{Texts, is_every_host};
use crate::words::Target;

/// Host names, each alone or with all names below it.
#[derive(Clone, Debug, Default)]
pub(super) struct HostSet {
    names: HashMap<Box<str>, Reach>,
    patterns: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// This name alone.
    Alone,
    /// It and every name below it.
    Below,
}

/// Why a text names no hosts.
#[derive(Debug)]
pub(super) enum BadHost {
    /// It stands for every host.
    Every(String),
    /// What is around its `*` is in no host name.
    Pattern(String),
    /// Neither a name nor an address.
    Unknown(String),
}

impl fmt::Display for BadHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(text) => write!(f, "{text:?} stands for every host, which no list does"),
            Self::Pattern(text) => write!(f, "{text:?} is no pattern for host names"),
            Self::Unknown(text) => write!(f, "{text:?} is neither name nor address"),
        }
    }
}

impl HostSet {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty()
    }

    /// Adds `example.org`, `*.example.org`, an address, or a pattern with `*` elsewhere.
    pub(super) fn add(&mut self, text: &str) -> Result<(), BadHost> {
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let name = below.unwrap_or(text);
        if name.contains('*') {
            let plain = text.replace('*', "x");
            if Target::new(&plain, 443).is_err() {
                return Err(BadHost::Pattern(text.to_owned()));
            }
            self.patterns.push(text.to_ascii_lowercase().into());
            return Ok(());
        }
        let target = Target::new(name, 443).map_err(|_| BadHost::Unknown(text.to_owned()))?;
        let reach = if below.is_some() { Reach::Below } else { Reach::Alone };
        let entry = self.names.entry((*target.host).into()).or_insert(reach);
        if reach == Reach::Below {
            *entry = reach;
        }
        Ok(())
    }

    /// Adds the names of a file, one a line, or as in a hosts file: an address, and names that it is to stand for.
    pub(super) fn add_file(&mut self, path: &Path, texts: &Texts) -> Result<(), StartError> {
        let text = texts.read(path, "the list of hosts")?;
        for (number, line) in text.lines().enumerate() {
            let name = line.split('#').next().unwrap_or_default().trim();
            if name.is_empty() {
                continue;
            }
            let mut words = name.split_ascii_whitespace().peekable();
            let is_hosts_line = words.next_if(|first| first.parse::<IpAddr>().is_ok()).is_some()
                && words.peek().is_some();
            let added = match is_hosts_line {
                // Such files begin with the names of the machine itself.
                true => words.filter(|name| name.contains('.')).try_for_each(|name| self.add(name)),
                false if is_every_host(name) => Err(BadHost::Every(name.to_owned())),
                false => self.add(name),
            };
            added.map_err(|e| {
                StartError::new(
                    e.to_string(),
                    format!("{}:{}", path.display(), number + 1),
                    "write a host name a line, in ASCII (xn--...), *. before it to mean all below it too",
                )
            })?;
        }
        Ok(())
    }

    /// Whether `host`, in the spelling of [`Target::host`], is in it.
    pub(super) fn contains(&self, host: &str) -> bool {
        if self.names.contains_key(host) {
            return true;
        }
        let is_name = !host.contains(':') && host.parse::<IpAddr>().is_err();
        let mut rest = host;
        while is_name && let Some((_, parent)) = rest.split_once('.') {
            if self.names.get(parent) == Some(&Reach::Below) {
                return true;
            }
            rest = parent;
        }
        self.patterns.iter().any(|pattern| matches(pattern.as_bytes(), host.as_bytes()))
    }
}

/// Whether `pattern`, in which `*` stands for any bytes, matches all of `text`. Takes time in
/// proportion to the product of the lengths at worst.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            last_star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star, from)) = last_star {
            last_star = Some((star, from + 1));
            p = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn set(names: &[&str]) -> HostSet {
        let mut set = HostSet::default();
        for name in names {
            set.add(name).unwrap();
        }
        set
    }

    #[test]
    fn names_stand_alone_or_for_all_below() {
        let set = set(&["a.example", "*.b.example", ".c.example", "192.0.2.1", "[2001:DB8::1]"]);
        for inside in [
            "a.example",
            "b.example",
            "x.y.b.example",
            "c.example",
            "x.c.example",
            "192.0.2.1",
            "2001:db8::1",
        ] {
            assert!(set.contains(inside), "{inside}");
        }
        for outside in ["x.a.example", "xb.example", "example", "192.0.2.2", "b.example.net"] {
            assert!(!set.contains(outside), "{outside}");
        }
    }

    #[test]
    fn an_address_has_no_names_below() {
        let mut set = HostSet::default();
        set.add("*.0.2.1").unwrap_err();
        set.add("*.example").unwrap();
        assert!(!set.contains("192.0.2.1"));
    }

    #[test]
    fn patterns_match_anywhere() {
        let set = set(&["ads*.example", "*-track.*.example"]);
        assert!(set.contains("ads1.example"));
        assert!(set.contains("my-track.eu.example"));
        assert!(!set.contains("bads1.example"));
        assert!(matches(b"*", b""));
        assert!(matches(b"a*b*c", b"aXXbYYbZc"));
        assert!(!matches(b"a*b*c", b"aXXbYYbZ"));
        assert!(!matches(&b"*a".repeat(20), &b"b".repeat(5000)));
    }

    #[test]
    fn a_wider_entry_is_not_narrowed_by_a_later_one() {
        assert!(set(&["*.a.example", "a.example"]).contains("x.a.example"));
    }

    #[test]
    fn files_have_comments_and_their_faults_have_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        fs::write(&path, "# banks\na.example # the one\n\n*.b.example\r\n").unwrap();
        let mut set = HostSet::default();
        set.add_file(&path, &Texts::default()).unwrap();
        assert!(set.contains("a.example") && set.contains("x.b.example"));
        let hosts = "127.0.0.1 localhost\n::1\tip6-localhost ip6-loopback\n192.0.2.7\n\
                     0.0.0.0 ads.example  more.example # both\n";
        fs::write(&path, hosts).unwrap();
        let mut list = HostSet::default();
        list.add_file(&path, &Texts::default()).unwrap();
        assert!(
            ["ads.example", "more.example", "192.0.2.7"].iter().all(|host| list.contains(host))
        );
        assert!(!["localhost", "x.ads.example", "0.0.0.0"].iter().any(|host| list.contains(host)));
        fs::write(&path, "b\u{fc}cher.example\n").unwrap();
        let refused = set.add_file(&path, &Texts::default()).unwrap_err().to_string();
        assert!(refused.contains("xn--"), "{refused}");
        fs::write(&path, "a.example\nb example\n").unwrap();
        let refused = set.add_file(&path, &Texts::default()).unwrap_err().to_string();
        assert!(refused.contains("hosts:2"), "{refused}");
        fs::write(&path, "*").unwrap();
        assert!(set.add_file(&path, &Texts::default()).is_err());
        assert!(set.add_file(&dir.path().join("none"), &Texts::default()).is_err());
    }

    #[test]
    fn a_hundred_thousand_names_are_held_apart() {
        let mut set = HostSet::default();
        for n in 0..100_000 {
            set.add(&format!("*.host{n}.example")).unwrap();
        }
        for n in (0..100_000).step_by(997) {
            assert!(set.contains(&format!("a.b.host{n}.example")));
            assert!(!set.contains(&format!("host{n}x.example")));
        }
    }
}
