//! Fewer rights for the process that reads hostile bytes with C code.

use crate::settings::Settings;

/// Gives up what the engine does not need, as far as the kernel can. To be called before any
/// thread is started.
pub(crate) fn enter(_settings: &Settings) {}
