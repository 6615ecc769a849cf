//! The process that inspects: it serves ICAP with a worker thread and an engine worker for each processor, and is
//! replaced by the supervisor when it ends.

mod exposition;
pub(crate) mod process;
mod sandbox;
mod worker;
mod workers;
