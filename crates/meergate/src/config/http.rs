//! `[http]`: how requests and responses are treated.

use serde::Deserialize;

/// How requests and responses are treated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {}
