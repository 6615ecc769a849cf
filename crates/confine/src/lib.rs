//! Fewer rights for a process that reads what strangers send.
//!
//! All of it holds for the calling thread and those that it starts later, so it is entered before any thread is
//! started. What the kernel cannot do is logged, and the program goes on.

mod calls;
mod files;

pub use calls::Calls;
pub use files::{Confined, Files, folder_of};
