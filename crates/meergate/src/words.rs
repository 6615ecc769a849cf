//! Words that all other folders share, and that know none of them.

mod address;
mod alpn;
mod counted;
mod ends;
mod enumerated;
mod http_url;
mod limited;
mod scheme;
mod spoken;
mod target;
mod unreachable;
mod unseen;

pub use address::embedded;
pub use alpn::{Alpn, SERVED};
pub use counted::{
    Checked, Deed, Handshake, LogName, Mirrored, Password, Protocol, Reloaded, Side,
};
pub use ends::{ConnectionEnd, Outcome, WebSocketEnd};
pub use http_url::HttpUrl;
pub use limited::Limited;
pub use scheme::Scheme;
pub use spoken::{Speech, Spoken};
pub use target::{BadTarget, Target};
pub use unreachable::{UpstreamError, UpstreamErrorKind};
pub use unseen::{Towards, Unseen};
