//! Files and the network, by landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// What a process may still open. Paths that do not exist are left out: what is not there needs no rights.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Files, and folders with all that is in them, that it may read.
    pub read: Vec<PathBuf>,
    /// The same to write.
    pub write: Vec<PathBuf>,
    /// It may run programs that it may read.
    pub programs: bool,
    /// It may connect to and listen on TCP ports.
    pub network: bool,
}

/// How much of what was asked for the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confined {
    /// All of it.
    Fully,
    /// Some of it: an old kernel.
    Partly,
    /// Nothing.
    Not,
}

impl Files {
    /// Gives up all rights to files but these. What the kernel cannot do is logged.
    pub fn enter(&self) -> Confined {
        match self.restrict() {
            Ok(RulesetStatus::FullyEnforced) => {
                tracing::debug!("landlock is on");
                Confined::Fully
            }
            Ok(RulesetStatus::PartiallyEnforced) => {
                tracing::warn!("this kernel can do only part of landlock");
                Confined::Partly
            }
            Ok(RulesetStatus::NotEnforced) => {
                tracing::warn!("landlock is off: this kernel does not have it");
                Confined::Not
            }
            Err(error) => {
                tracing::warn!(%error, "landlock is off");
                Confined::Not
            }
        }
    }

    fn restrict(&self) -> Result<RulesetStatus, RulesetError> {
        let abi = ABI::V6;
        let mut read = AccessFs::ReadFile | AccessFs::ReadDir;
        if self.programs {
            read |= AccessFs::Execute;
        }
        let write = AccessFs::from_all(abi) & !AccessFs::Execute;
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?;
        if !self.network {
            ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
        }
        let status = ruleset
            .create()?
            .add_rules(path_beneath_rules(&self.read, read))?
            .add_rules(path_beneath_rules(&self.write, write))?
            .restrict_self()?;
        Ok(status.ruleset)
    }
}

/// The folder of a file. A file that is replaced is another file, so that rights are to be had to its folder.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_path_buf(),
        None => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_named_cannot_be_opened_any_more() {
        let [mine, others] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        std::fs::write(mine.path().join("a"), "a").unwrap();
        std::fs::write(others.path().join("b"), "b").unwrap();
        let files = Files { read: vec![mine.path().to_path_buf()], ..Files::default() };
        let (mine, others) = (mine.path().to_path_buf(), others.path().to_path_buf());
        // For this thread alone.
        let confined = std::thread::spawn(move || {
            if files.enter() == Confined::Not {
                return false;
            }
            assert!(std::fs::read(mine.join("a")).is_ok());
            assert!(std::fs::write(mine.join("a"), "c").is_err());
            assert!(std::fs::read(others.join("b")).is_err());
            true
        });
        if !confined.join().unwrap() {
            eprintln!("skipped: this kernel has no landlock");
        }
    }

    #[test]
    fn the_folder_of_a_bare_name_is_the_current_one() {
        for (path, folder) in [("a", "."), ("a/b", "a"), ("/a", "/"), ("/", "/"), ("", "")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path:?}");
        }
    }
}
