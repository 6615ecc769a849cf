//! `[icap]`: the services that inspect.

use std::path::Path;

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
    /// That there is no service is meant: a reload may take the last one away.
    pub none: bool,
}

impl Icap {
    /// The files that services' settings name.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.service.iter().flat_map(|service| {
            let tls = &service.tls;
            [&tls.ca, &tls.cert, &tls.key].into_iter().flatten().map(|path| path.as_path())
        })
    }

    /// All named chains, and the one that transactions take unless a rule names another; `None`
    /// when no service is set. A service in several of them is one, with one pool of connections.
    ///
    /// # Errors
    /// A URL, name or file that cannot be used; see [`Chains::from_config`].
    pub fn chains(&self) -> Result<(Chains, Option<Chain>), ConfigError> {
        let mut orders = self.chain.clone();
        if !orders.iter().any(|chain| chain.name == DEFAULT_CHAIN) {
            let services = self.service.iter().map(|service| service.name.clone()).collect();
            orders.push(ChainConfig::new(DEFAULT_CHAIN, services));
        }
        let chains = Chains::from_config(&self.service, &orders)?;
        let default = match self.urls.is_empty() {
            true => chains.chain(DEFAULT_CHAIN).cloned(),
            false => Some(Chain::from_urls(&self.urls)?),
        };
        Ok((chains, default.filter(|chain| !chain.is_empty())))
    }
}
