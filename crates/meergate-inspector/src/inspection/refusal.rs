//! Why content is refused that the engine could have been shown.

use std::fmt;

use content_coding::Unsupported;

/// Why content is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A coding that is not decoded here.
    Coding(Unsupported),
    /// A DNS message that cannot be shown to the engine as one.
    Dns(DnsFault),
    /// A form that can be read in two ways.
    Form(Ambiguity),
    /// What a stream has that the engine would not see as its receiver does.
    Hidden(Hidden),
    /// Not what its coding asks for.
    Malformed(content_coding::Error),
    /// A part, which is not judged for the whole; of coded content it cannot even be decoded.
    Part,
    /// More than `max_ratio`.
    Ratio,
    /// More than `max_decoded`.
    Size,
}

impl Refusal {
    /// Its number in [`Self::LABELS`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Coding(_) => 0,
            Self::Dns(_) => 1,
            Self::Form(_) => 2,
            Self::Malformed(_) => 3,
            Self::Part => 4,
            Self::Ratio => 5,
            Self::Size => 6,
            Self::Hidden(_) => 7,
        }
    }

    /// As they are counted.
    pub(crate) const LABELS: [&'static str; 8] =
        ["coding", "dns", "form", "malformed", "part", "ratio", "size", "stream"];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coding(unsupported) => write!(f, "the content cannot be decoded: {unsupported}"),
            Self::Dns(fault) => write!(f, "the DNS message cannot be inspected: {fault}"),
            Self::Form(ambiguity) => {
                write!(f, "servers would read the form in different ways: {ambiguity}")
            }
            Self::Hidden(hidden) => hidden.fmt(f),
            Self::Malformed(error) => {
                write!(f, "the content is not what its coding asks for: {error}")
            }
            Self::Part => f.write_str("a part of a resource cannot be inspected as the whole"),
            Self::Ratio => f.write_str("the content grows too much when it is decoded"),
            Self::Size => f.write_str("the content is too long when it is decoded"),
        }
    }
}

/// Why a form can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ambiguity {
    /// What the Content-Type says of the boundary.
    Boundary,
    /// Something else than the end of a line follows a boundary, or a boundary follows where content should.
    Delimiter,
    /// A field of a part that is no field, or is said twice.
    Field,
    /// A line that ends in LF or CR alone, or is folded, where others end in CRLF.
    Line,
    /// A line of a part's head is too long.
    Long,
    /// The name of a file is given twice, or not as such names are written.
    Name,
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boundary => "how its boundary is given",
            Self::Delimiter => "a boundary that is not alone on its line, or not behind content",
            Self::Field => "a part with a field that is none, or that comes twice",
            Self::Line => "a line that does not end in CRLF, or goes on in the next",
            Self::Long => "a line of a part's head beyond 4096 bytes",
            Self::Name => "how the name of a file is given",
        })
    }
}

/// Why a DNS message cannot be shown to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DnsFault {
    /// What stands in a target is no base64.
    Base64,
    /// What should be JSON is none, or not of a message.
    Json,
    /// It is longer than a message may be.
    Long,
    /// It does not hold exactly what its header says, or is not what goes that way.
    Malformed,
    /// There are more queries in a target than are looked at.
    Many,
}

impl fmt::Display for DnsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base64 => "it is not in base64",
            Self::Json => "it is not the JSON of a response",
            Self::Long => "it is longer than 65535 bytes",
            Self::Malformed => "it is not well-formed",
            Self::Many => "there are more than 16 of them in one target",
        })
    }
}

/// What a stream has that the engine would not see as its receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// WebSocket in another form than the one that is inspected.
    Frames(FrameFault),
    /// A data connection of FTP, agreed on in words that the engine does not read.
    Ftp,
    /// Headers of the PROXY protocol behind each other, more than anybody has.
    Headers,
    /// HTTP, of which codings are undone in messages only.
    Http,
    /// A mail.
    Mail(MailFault),
    /// TLS whose client is the server of the stream.
    Roles,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(fault) => write!(f, "WebSocket that cannot be inspected: {fault}"),
            Self::Ftp => {
                f.write_str("a data connection of FTP, named otherwise than it is inspected")
            }
            Self::Headers => f.write_str("more than 16 PROXY headers behind each other"),
            Self::Http => f.write_str("HTTP within a stream, where it is not inspected as such"),
            Self::Mail(fault) => write!(f, "a mail that cannot be inspected: {fault}"),
            Self::Roles => f.write_str("TLS within a stream, of which the server is the client"),
        }
    }
}

/// Why a WebSocket was not inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameFault {
    /// Masked or compressed frames, in which rules on bytes would see nothing.
    Form,
    /// A message that the engine sees in part only.
    Long,
    /// What is no frame, or not where it stands.
    Malformed,
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "its frames are masked or compressed",
            Self::Long => "a message of more than 16 MiB",
            Self::Malformed => "its frames are malformed",
        })
    }
}

/// Why a mail was not inspected as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailFault {
    /// What delimits its parts is not given as all readers know it.
    Boundary,
    /// It comes in chunks (RFC 3030).
    Chunks,
    /// A body is not in a coding that all readers undo alike.
    Coding,
    /// It has more multiparts in each other than are followed.
    Deep,
    /// The client went on before it was told to, so that nobody knows what for the server takes it.
    Early,
    /// It may end where only some servers see an end.
    End,
    /// The server asks for content that nobody announced.
    GoAhead,
    /// A head, of it or of a part, that readers take for different ones.
    Head,
    /// A line that the engine, or some servers, would read in part.
    Line,
    /// It is a part of one that its reader puts together.
    Part,
    /// What follows STARTTLS is no TLS.
    Tls,
    /// The engine does not take for a mail what the server takes for one.
    Unseen,
}

impl fmt::Display for MailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boundary => "how its parts are delimited, not all readers take alike",
            Self::Chunks => "it comes by BDAT, which the engine does not read",
            Self::Coding => "a body in a coding that not all readers undo alike",
            Self::Deep => "it has more than 64 multiparts in each other",
            Self::Early => "its client goes on before the server's reply to DATA or STARTTLS",
            Self::End => "its end is not written as all servers read it",
            Self::GoAhead => "its server says 354 to something else than DATA",
            Self::Head => "a head that not all readers take alike",
            Self::Line => "a line is beyond 4095 bytes, or has NUL or a bare CR in it",
            Self::Part => "it is a part of one (message/partial)",
            Self::Tls => "what follows STARTTLS is no TLS",
            Self::Unseen => "the engine does not see it where the server does",
        })
    }
}
