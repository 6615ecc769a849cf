//! What a reload replaces.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::policy::{Policy, Users};
use crate::tls;

/// What a reload replaces as a whole; open connections keep the ones they began with.
pub struct Settings {
    /// The settings as read.
    pub config: Config,
    /// The CA, forged leaves and everything else of TLS.
    pub tls: tls::Context,
    /// Rules, and the ICAP services that they choose.
    pub policy: Policy,
    /// Who may use the explicit proxy and SOCKS5; `None` where nobody is asked.
    pub users: Option<Arc<Users>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("config", &self.config).finish_non_exhaustive()
    }
}
