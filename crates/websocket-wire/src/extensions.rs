//! Which extensions are in force: permessage-deflate or none (RFC 6455 section 9.1, RFC 7692 section 7.1).

use std::fmt::Write as _;

use crate::error::{Error, ErrorKind};

const NAME: &str = "permessage-deflate";
/// Extensions of a field that are looked at.
const MOST: usize = 32;

/// How one side compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its messages may refer to those before.
    pub keeps_context: bool,
    /// How far back, as a power of two: 8 to 15.
    pub window_bits: u8,
}

/// permessage-deflate as both have agreed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// What the client says.
    pub client: Side,
    /// What the server says.
    pub server: Side,
}

/// What a client offers that can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers(Vec<Parameters>);

/// The parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    server_forgets: bool,
    client_forgets: bool,
    server_bits: Option<u8>,
    client_bits: Option<Bits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    /// The client has no wish.
    Any,
    Most(u8),
}

impl Offers {
    /// Those among the values of a request's `Sec-WebSocket-Extensions`. What cannot be read, or is something else, is left out.
    pub fn read<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut offers = Vec::new();
        for extension in values.flat_map(extensions).take(MOST) {
            if let Some(Extension { name, parameters }) = extension
                && name.eq_ignore_ascii_case(NAME)
                && let Some(parameters) = Parameters::read(&parameters, true)
            {
                offers.push(parameters);
            }
        }
        Self(offers)
    }

    /// The value of a field that offers these; `None` without any.
    pub fn value(&self) -> Option<String> {
        let mut value = String::new();
        for offer in &self.0 {
            let comma = if value.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(value, "{comma}{NAME}");
            offer.write(&mut value);
        }
        (!value.is_empty()).then_some(value)
    }

    /// What the server has agreed to, by the values of its response's `Sec-WebSocket-Extensions`.
    ///
    /// # Errors
    /// [`ErrorKind::Negotiation`]: it was not offered, or it is not known what it would be.
    pub fn agreed<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<Deflate>, Error> {
        let mut agreed = None;
        for extension in values.flat_map(extensions) {
            let Some(Extension { name, parameters }) = extension else {
                return Err(wrong("the server's answer is malformed"));
            };
            if !name.eq_ignore_ascii_case(NAME) || self.0.is_empty() {
                return Err(wrong("the server agrees to what was not offered"));
            }
            let Some(answer) = Parameters::read(&parameters, false) else {
                return Err(wrong("the server's answer has parameters that there are not"));
            };
            if !self.0.iter().any(|offer| offer.is_answered_by(&answer)) {
                return Err(wrong("the server agrees to parameters that were not offered"));
            }
            if agreed.replace(answer.deflate()).is_some() {
                return Err(wrong("the server agrees to compress twice"));
            }
        }
        Ok(agreed)
    }
}

impl Parameters {
    /// `None` if one of them is unknown, comes twice, or has a value that it can't have.
    fn read(given: &[(&str, Option<&str>)], is_offer: bool) -> Option<Self> {
        let mut this = Self::default();
        for (name, value) in given {
            let bits = || value.and_then(bits);
            let is_new = match name.to_ascii_lowercase().as_str() {
                "server_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut this.server_forgets, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    !std::mem::replace(&mut this.client_forgets, true)
                }
                "server_max_window_bits" => this.server_bits.replace(bits()?).is_none(),
                "client_max_window_bits" => {
                    let bits = match value {
                        None if is_offer => Bits::Any,
                        _ => Bits::Most(bits()?),
                    };
                    this.client_bits.replace(bits).is_none()
                }
                _ => return None,
            };
            if !is_new {
                return None;
            }
        }
        Some(this)
    }

    fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        if self.server_forgets {
            out.push_str("; server_no_context_takeover");
        }
        if self.client_forgets {
            out.push_str("; client_no_context_takeover");
        }
        if let Some(bits) = self.server_bits {
            let _ = write!(out, "; server_max_window_bits={bits}");
        }
        match self.client_bits {
            None => {}
            Some(Bits::Any) => out.push_str("; client_max_window_bits"),
            Some(Bits::Most(bits)) => {
                let _ = write!(out, "; client_max_window_bits={bits}");
            }
        }
    }

    /// Whether a server that was offered this may say `answer` (RFC 7692 sections 7.1.1 and 7.1.2).
    fn is_answered_by(&self, answer: &Self) -> bool {
        let server_bits = match (self.server_bits, answer.server_bits) {
            (Some(most), Some(bits)) => bits <= most,
            // The largest window is what there is without a word.
            (Some(most), None) => most == 15,
            (None, _) => true,
        };
        let client_bits = match (self.client_bits, answer.client_bits) {
            (_, None) | (Some(Bits::Any), _) => true,
            (Some(Bits::Most(most)), Some(Bits::Most(bits))) => bits <= most,
            (None | Some(Bits::Most(_)), Some(_)) => false,
        };
        (answer.server_forgets || !self.server_forgets) && server_bits && client_bits
    }

    fn deflate(&self) -> Deflate {
        let side = |forgets: bool, bits: Option<u8>| Side {
            keeps_context: !forgets,
            window_bits: bits.unwrap_or(15),
        };
        let client_bits = match self.client_bits {
            Some(Bits::Most(bits)) => Some(bits),
            None | Some(Bits::Any) => None,
        };
        Deflate {
            client: side(self.client_forgets, client_bits),
            server: side(self.server_forgets, self.server_bits),
        }
    }
}

/// 8 to 15, without zeros before it.
fn bits(value: &str) -> Option<u8> {
    match value {
        "8" => Some(8),
        "9" => Some(9),
        _ => value.strip_prefix('1').and_then(|last| match last.as_bytes() {
            [digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
            _ => None,
        }),
    }
}

/// An extension with its parameters.
struct Extension<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<&'a str>)>,
}

/// The extensions of a field's value; `None` for each that is malformed.
fn extensions(value: &[u8]) -> impl Iterator<Item = Option<Extension<'_>>> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let parts = value.split(move |&byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    });
    // Empty ones don't count (RFC 9110 section 5.6.1).
    parts.map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()).map(extension)
}

fn extension(text: &[u8]) -> Option<Extension<'_>> {
    // No parameter that we know has a semicolon in its value.
    let mut words = str::from_utf8(text).ok()?.split(';').map(str::trim_ascii);
    let name = words.next().filter(|name| is_token(name))?;
    let parameters = words.map(|word| match word.split_once('=') {
        None => is_token(word).then_some((word, None)),
        Some((name, value)) => {
            let (name, value) = (name.trim_ascii_end(), value.trim_ascii_start());
            let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            // What is quoted has to be a token as well (RFC 6455 section 9.1).
            let value = inner.unwrap_or(value);
            (is_token(name) && is_token(value)).then_some((name, Some(value)))
        }
    });
    Some(Extension { name, parameters: parameters.collect::<Option<_>>()? })
}

fn is_token(text: &str) -> bool {
    let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_in)
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::Negotiation, what)
}
