//! Methods.

use std::fmt;

/// An ICAP method (RFC 3507 section 4.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Asks what a service can do (section 4.10).
    Options,
    /// Hands a request over for adaptation (section 4.8).
    Reqmod,
    /// Hands a response over for adaptation (section 4.9).
    Respmod,
}

impl Method {
    /// The method as it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Reqmod => "REQMOD",
            Self::Respmod => "RESPMOD",
        }
    }

    /// The method that `token` names; case matters, as in HTTP.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        match token {
            b"OPTIONS" => Some(Self::Options),
            b"REQMOD" => Some(Self::Reqmod),
            b"RESPMOD" => Some(Self::Respmod),
            _ => None,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The usual reason phrase of an ICAP status (RFC 3507 section 4.3.3, else HTTP's); empty if none
/// is known.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Modifications Needed",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "ICAP Service Not Found",
        405 => "Method Not Allowed For Service",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        500 => "Server Error",
        501 => "Method Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Overloaded",
        505 => "ICAP Version Not Supported By Server",
        _ => "",
    }
}
