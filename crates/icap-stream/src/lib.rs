#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod fields;
mod frame;
mod gateway;
mod inspector;
mod offer;
mod words;

pub use error::{Error, ErrorKind};
pub use fields::Fields;
pub use frame::{HEADER, MAX_BYTES, MAX_FIELDS};
pub use gateway::{Answer, Gateway};
pub use inspector::{Command, Inspector};
pub use offer::{Offer, VERSION, Window};
pub use words::{Dropped, Mark, Phase, Reason, Signature, Way};
