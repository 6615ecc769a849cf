//! `[icap]`: the services that inspect.

use serde::Deserialize;

/// The services that inspect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Icap {
    /// URLs (`icap://host:1344/service`), in the order in which transactions pass them.
    pub services: Vec<String>,
}
