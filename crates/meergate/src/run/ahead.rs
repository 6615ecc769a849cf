//! What shows only when `run` opens it, looked at beforehand.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::config::Config;
use crate::rights;
use start_error::StartError;

/// What `run` would refuse of it, as far as that can be told.
pub(super) fn of(config: &Config) -> Vec<StartError> {
    let mut found = Vec::new();
    let known = rights::owner(config);
    let is_known = known.is_ok();
    found.extend(known.err());
    for (key, file) in [
        ("log.connections", &config.log.connections),
        ("log.transactions", &config.log.transactions),
    ] {
        let folder = file.as_deref().map(|file| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        });
        found
            .extend(folder.filter(|_| is_known).and_then(|folder| unwritable(config, key, folder)));
    }
    if let Some(folder) = config.capture.folder.as_deref().filter(|_| is_known) {
        found.extend(unwritable(config, "capture.folder", folder));
    }
    let listeners = config.listen.iter().map(|listen| ("[[listen]]", listen.address));
    let console = config.console.address.map(|address| ("console.address", address));
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for (key, address) in listeners.chain(console) {
        if address.port() != 0 && addresses.contains(&address) {
            found.push(StartError::new(
                format!("{address} is there twice"),
                key,
                "give each listener, and the console, an address of its own",
            ));
        }
        addresses.push(address);
        found.extend(not_ours(key, address));
    }
    found
}

/// Why nothing can be written to `folder` by whom the program will be.
fn unwritable(config: &Config, key: &str, folder: &Path) -> Option<StartError> {
    let looked = rights::as_owner(config, || {
        Ok(accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS))
    });
    let error = match looked {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => io::Error::from(error),
        Err(error) => return Some(error),
    };
    Some(StartError::new(
        format!("cannot write to {} ({error})", folder.display()),
        key,
        "make the folder, and give it to whom the program runs as (user)",
    ))
}

/// Why nobody can listen at `address` on this machine.
fn not_ours(key: &str, address: SocketAddr) -> Option<StartError> {
    let error = TcpListener::bind((address.ip(), 0)).err()?;
    (error.kind() == io::ErrorKind::AddrNotAvailable).then(|| {
        StartError::new(
            format!("cannot listen at {address} ({error})"),
            key,
            "name an address of this machine, or 0.0.0.0 or [::] for all",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let config = Config::from_toml(text, "m.toml").unwrap();
        of(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_run_refuses_is_told_all_of_it() {
        let found = told(
            "user = \"nobody-of-that-name\"\n[console]\naddress = \"203.0.113.1:1\"\n\
             [[listen]]\naddress = \"127.0.0.1:3128\"\n[[listen]]\naddress = \"127.0.0.1:3128\"\n",
        );
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("no such user"), "{found:?}");
        assert!(found[1].contains("127.0.0.1:3128 is there twice"), "{found:?}");
        assert!(found[2].contains("203.0.113.1:1") && found[2].contains("of this machine"));
        let folders = told(
            "[log]\nconnections = \"/no-such-folder/a\"\ntransactions = \"/no-such-folder/b\"\n\
             [capture]\nfolder = \"/no-such-folder\"\n",
        );
        assert_eq!(folders.len(), 3, "{folders:?}");
        assert!(folders.iter().all(|told| told.contains("make the folder")), "{folders:?}");
        assert!(
            told("[log]\nconnections = \"a\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n").is_empty()
        );
    }
}
