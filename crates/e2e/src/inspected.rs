//! What most tests stand on: an authority for origins, an inspector with the test rules, and
//! gateways that know both.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::pki::{Authority, Identity};
use crate::{Gateway, Inspector, origin};

/// Everything but origin and client.
pub struct Inspected {
    /// The inspector of all gateways.
    pub inspector: Inspector,
    authority: Authority,
    folder: TempDir,
}

impl Inspected {
    /// Starts the inspector.
    ///
    /// # Panics
    /// When it doesn't come up; with its log. So for all methods here.
    pub fn start() -> Self {
        let authority = Authority::new("Origin");
        let folder = TempDir::new().expect("a temporary folder");
        authority.write(folder.path());
        Self { inspector: Inspector::with_test_rules(), authority, folder }
    }

    /// A certificate for an origin at one of [`origin::NAMES`].
    pub fn identity(&self) -> Identity {
        self.authority.leaf(&origin::NAMES)
    }

    /// The certificate of the origins' authority.
    pub fn origins(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// An explicit proxy.
    pub fn proxy(&self) -> Gateway {
        Gateway::start(["--icap", &self.inspector.url(), "--upstream-ca", &self.trusted()])
    }

    /// A gateway all of whose connections go to `localhost` at this port, for clients that know of no proxy.
    pub fn target(&self, port: u16) -> Gateway {
        Gateway::with_settings(
            &format!(
                "[[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"target\"\n\
                 target = \"localhost:{port}\"\n"
            ),
            ["--icap", &self.inspector.url(), "--upstream-ca", &self.trusted()],
        )
    }

    fn trusted(&self) -> String {
        self.origins().display().to_string()
    }
}
