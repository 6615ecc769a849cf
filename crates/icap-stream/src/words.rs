//! What both sides say, as types.

use std::net::SocketAddr;

use crate::{Error, ErrorKind, Fields};

/// One of a stream's two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the server.
    ToClient,
    /// From the client.
    ToServer,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToClient, Self::ToServer];

    /// The flag that names it.
    pub(crate) fn flag(self) -> u8 {
        match self {
            Self::ToClient => crate::frame::TO_CLIENT,
            Self::ToServer => 0,
        }
    }

    pub(crate) fn of(flags: u8) -> Self {
        match flags & crate::frame::TO_CLIENT {
            0 => Self::ToServer,
            _ => Self::ToClient,
        }
    }
}

/// What ends with a piece of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The sender finishes here (FIN): nothing more comes that way.
    pub end: bool,
    /// A unit of the protocol ends here: a line, a mail, a message.
    pub unit: bool,
}

impl Mark {
    /// Nothing ends.
    pub const NONE: Self = Self { end: false, unit: false };
    /// The direction ends.
    pub const END: Self = Self { end: true, unit: false };
}

/// Ends the engine's flow in order and begins another, of which the stream's next bytes are part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The protocol from here on, if it is known: `smtp`, `tls`.
    pub proto: Option<String>,
    /// Why.
    pub reason: Reason,
    /// What the records call the transaction from here on.
    pub transaction: Option<String>,
    /// Client and server of the new flow, if they are others than the stream's.
    pub tuple: Option<(SocketAddr, SocketAddr)>,
}

/// Why a [`Phase`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What was there was dropped, and the connection goes on.
    Blocked,
    /// A mail ended, another may follow.
    NextMail,
    /// The rules were loaded anew.
    Reload,
    /// TLS begins on the connection.
    StartTls,
}

impl Reason {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Blocked, "blocked"),
        (Self::NextMail, "next-mail"),
        (Self::Reload, "reload"),
        (Self::StartTls, "starttls"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or("", |(_, name)| name)
    }
}

impl Phase {
    /// One without particulars.
    pub fn new(reason: Reason) -> Self {
        Self { proto: None, reason, transaction: None, tuple: None }
    }

    pub(crate) fn fields(&self) -> Result<Fields, Error> {
        let mut fields = Fields::new();
        fields.push("Reason", self.reason.name())?;
        if let Some(proto) = &self.proto {
            fields.push("Proto", proto)?;
        }
        if let Some(transaction) = &self.transaction {
            fields.push("Transaction-Id", transaction)?;
        }
        if let Some((client, server)) = self.tuple {
            fields.push("Tuple", &format!("{client} {server}"))?;
        }
        Ok(fields)
    }

    pub(crate) fn parse(fields: &Fields, at: u64) -> Result<Self, Error> {
        let refused = |what| Error::new(ErrorKind::Fields, at, what);
        let reason = fields.required("Reason", at)?;
        let (reason, _) = Reason::ALL
            .into_iter()
            .find(|(_, name)| *name == reason)
            .ok_or(refused("a Reason for a phase that is not known"))?;
        let owned = |name| fields.value(name).map(str::to_owned);
        let tuple = fields
            .value("Tuple")
            .map(|tuple| {
                let (client, server) = tuple.split_once(' ')?;
                Some((client.parse().ok()?, server.parse().ok()?))
            })
            .map(|tuple| tuple.ok_or(refused("a Tuple that is not two addresses with ports")))
            .transpose()?;
        Ok(Self { proto: owned("Proto"), reason, transaction: owned("Transaction-Id"), tuple })
    }
}

/// A rule that matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Its number (`sid`).
    pub id: u32,
    /// The generator of its number (`gid`).
    pub generator: u32,
    /// Its revision.
    pub revision: u32,
    /// What it says.
    pub message: String,
    /// Its class.
    pub category: String,
}

impl Signature {
    pub(crate) fn write(&self, fields: &mut Fields) -> Result<(), Error> {
        fields.push("Signature-Id", &self.id.to_string())?;
        fields.push("Generator", &self.generator.to_string())?;
        fields.push("Revision", &self.revision.to_string())?;
        fields.push("Message", &self.message)?;
        fields.push("Category", &self.category)
    }

    /// The one that fields tell of; `None` without its number.
    pub(crate) fn parse(fields: &Fields, at: u64) -> Result<Option<Self>, Error> {
        let number = |name| match fields.value(name) {
            Some(text) => text.parse().map_err(|_| {
                Error::new(ErrorKind::Fields, at, "a signature's number that is none")
            }),
            None => Ok(0),
        };
        let owned = |name| fields.value(name).unwrap_or_default().to_owned();
        if fields.value("Signature-Id").is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            id: number("Signature-Id")?,
            generator: number("Generator")?,
            revision: number("Revision")?,
            message: owned("Message"),
            category: owned("Category"),
        }))
    }
}

/// Why a flow was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The rule that did it, if one did.
    pub signature: Option<Signature>,
    /// What made it a drop, in a word: `rules`, `app-layer-error`.
    pub reason: String,
}

impl Dropped {
    pub(crate) fn fields(&self) -> Result<Fields, Error> {
        let mut fields = Fields::new();
        if let Some(signature) = &self.signature {
            signature.write(&mut fields)?;
        }
        fields.push("Reason", &self.reason)?;
        Ok(fields)
    }

    pub(crate) fn parse(fields: &Fields, at: u64) -> Result<Self, Error> {
        let reason = fields.value("Reason").unwrap_or_default().to_owned();
        Ok(Self { signature: Signature::parse(fields, at)?, reason })
    }
}
