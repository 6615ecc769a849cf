//! Words that all other folders share, and that know none of them.

mod address;
mod alpn;
mod scheme;
mod target;
mod unreachable;

pub use address::embedded;
pub use alpn::{Alpn, SERVED};
pub use scheme::Scheme;
pub use target::{BadTarget, Target};
pub use unreachable::{UpstreamError, UpstreamErrorKind};
