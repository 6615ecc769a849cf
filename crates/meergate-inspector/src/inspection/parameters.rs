//! Parameters of a field, `type; name=value; name="value"`, read as strictly as all readers agree about.

/// The parameters of a field's value, one after the other: name, and value without quotes. Where readers would differ
/// there is none, and no other one follows.
pub(crate) struct Parameters<'a> {
    rest: &'a [u8],
}

impl<'a> Parameters<'a> {
    /// Of a value such as that of Content-Type.
    pub(crate) fn of(value: &'a [u8]) -> Self {
        let start = memchr::memchr(b';', value).unwrap_or(value.len());
        Self { rest: &value[start..] }
    }

    fn parameter(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let rest = self.rest;
        let name_end = rest.iter().position(|byte| !is_token(*byte))?;
        let (name, rest) = rest.split_at(name_end);
        let rest = rest.strip_prefix(b"=").filter(|_| !name.is_empty())?;
        let (value, rest) = match rest.strip_prefix(b"\"") {
            Some(rest) => rest.split_at(end_of_quoted(rest)?),
            None => {
                let end = rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len());
                let (value, rest) = rest.split_at(end);
                let value = value.trim_ascii_end();
                let odd =
                    value.iter().any(|byte| matches!(byte, b'"' | b',' | b'\\' | b' ' | b'\t'));
                if odd {
                    return None;
                }
                (value, rest)
            }
        };
        let rest = rest.strip_prefix(b"\"").unwrap_or(rest).trim_ascii_start();
        self.rest = rest;
        (rest.is_empty() || rest.starts_with(b";")).then_some((name, value))
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Option<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.strip_prefix(b";").unwrap_or_default().trim_ascii_start();
        if self.rest.is_empty() {
            return None;
        }
        let parameter = self.parameter();
        if parameter.is_none() {
            self.rest = b"";
        }
        Some(parameter)
    }
}

/// Where the quote is that ends a text; none if it has none, or if readers differ about which one it is: a backslash in
/// front of a quote stands for the quote, but some paths are sent with plain backslashes.
fn end_of_quoted(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr(b'"', &text[at..])?;
        match text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() {
            0 => return Some(at),
            1 => at += 1,
            _ => return None,
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(value: &str) -> Vec<Option<(&str, &str)>> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        Parameters::of(value.as_bytes())
            .map(|parameter| parameter.map(|(name, value)| (text(name), text(value))))
            .collect()
    }

    #[test]
    fn what_all_readers_agree_about_is_read() {
        for (value, expected) in [
            ("form-data", &[][..]),
            ("form-data;", &[]),
            ("a; b=c;d=\"e; f\" ; g=h ", &[("b", "c"), ("d", "e; f"), ("g", "h")]),
            ("a; b=\"c\\\"d\"", &[("b", "c\\\"d")]),
            ("a; b=\"C:\\dir\\f\"", &[("b", "C:\\dir\\f")]),
            ("a; b=; c=\"\"", &[("b", ""), ("c", "")]),
            ("a; b=----=_Part_1.2", &[("b", "----=_Part_1.2")]),
        ] {
            let expected: Vec<_> = expected.iter().copied().map(Some).collect();
            assert_eq!(parameters(value), expected, "{value}");
        }
    }

    #[test]
    fn what_readers_differ_about_is_not() {
        for value in [
            "a; b =c",
            "a; b= c",
            "a; b",
            "a; b; c=d",
            "a;; b=c",
            "a; =c",
            "a; b=c d",
            "a; b=c,d",
            "a; b=\"c",
            "a; b=\"c\"d",
            "a; b=\"c\\\"",
            "a; b=\"c\\\\\"; d=\"e\"",
            "a; b=c\"d\"",
            "\"a;b\"; c=d",
        ] {
            assert_eq!(parameters(value).last(), Some(&None), "{value}");
        }
    }
}
