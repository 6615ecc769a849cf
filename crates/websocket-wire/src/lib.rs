#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod close;
mod error;
mod extensions;
mod frame;
mod inflate;
mod reader;

pub use close::CloseCode;
pub use error::{Error, ErrorKind};
pub use extensions::{Deflate, Offers, Side};
pub use frame::{Frame, MAX_CONTROL, Opcode, Role, write_close, write_head};
pub use reader::{Event, Limits, Reader};
