//! `[icap]`: the services that inspect.

use icap_client::{Chain, ChainConfig, Chains, ConfigError, ServiceConfig};
use serde::Deserialize;

/// The chain that transactions take unless a rule names another.
const DEFAULT_CHAIN: &str = "default";

/// The services that inspect.
///
/// Transactions pass `urls` in order if there are any (one service with default settings each);
/// else the chain named `default`; else every `[[icap.service]]` in order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Icap {
    /// Services by URL alone (`icap://host:1344/service`), as `--icap` gives them.
    pub urls: Vec<String>,
    /// Services with settings of their own.
    pub service: Vec<ServiceConfig>,
    /// Named orders of services.
    pub chain: Vec<ChainConfig>,
}

impl Icap {
    /// The chain that transactions take; `None` when no service is set.
    ///
    /// # Errors
    /// A URL, name or file that cannot be used; see [`Chains::from_config`].
    pub fn default_chain(&self) -> Result<Option<Chain>, ConfigError> {
        let chain = if !self.urls.is_empty() {
            Chain::from_urls(&self.urls)?
        } else {
            let chains = Chains::from_config(&self.service, &self.chain)?;
            match chains.chain(DEFAULT_CHAIN) {
                Some(chain) => chain.clone(),
                None => Chain::from_services(&self.service)?,
            }
        };
        Ok((!chain.is_empty()).then_some(chain))
    }
}
