//! Coded content is inspected as its receiver will read it, or refused.

mod codings;
mod cuts;
mod limits;
mod policies;
mod traps;
mod views;
