//! URLs of what is fetched without TLS: lists of revoked certificates, certificates of CAs.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::target::Target;

/// An `http://` URL with a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpUrl {
    text: String,
    target: Target,
    path_at: usize,
}

impl HttpUrl {
    /// Reads one; `None` if it is none, or has a fragment or anything that does not belong into one.
    pub fn parse(text: &str) -> Option<Self> {
        let authority_at = "http://".len();
        let rest = text.strip_prefix("http://")?;
        let path_at = authority_at + rest.find('/')?;
        let target = Target::from_authority(&text[authority_at..path_at], 80).ok()?;
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        is_plain.then(|| Self { text: text.to_owned(), target, path_at })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.text[self.path_at..]
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            let expected = "a URL such as \"http://pki.example.org/meergate.crl\"";
            D::Error::custom(format!("expected {expected}, not {text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_in_one_way() {
        let url = HttpUrl::parse("http://PKI.example:8080/a.crl?b").unwrap();
        assert_eq!(url.target().to_string(), "pki.example:8080");
        assert_eq!(url.path(), "/a.crl?b");
        assert_eq!(HttpUrl::parse("http://pki.example/").unwrap().target().port, 80);
        for bad in [
            "",
            "pki.example/a",
            "https://pki.example/a",
            "http://pki.example",
            "http:///a",
            "http://a/b c",
            "http://a/b#c",
        ] {
            assert_eq!(HttpUrl::parse(bad), None, "{bad:?}");
        }
    }
}
