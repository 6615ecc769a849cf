//! The CA's two files: found, made on first run, never half there.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::KeyPair;
use start_error::StartError;

use super::{Authority, Former};
use crate::config::Config;
use crate::files;

/// Where a CA's certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Certificate, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Whether the program makes them when they are not there.
    pub ours: bool,
}

impl Place {
    /// What is kept of the CA that the present one took over from.
    pub fn former(&self) -> PathBuf {
        self.cert.with_extension("former.pem")
    }

    /// The files that the settings name, or those in the state directory.
    ///
    /// # Errors
    /// Only one of the two is named, or there is no state directory.
    pub fn of(config: &Config) -> Result<Self, StartError> {
        match (&config.ca.cert, &config.ca.key) {
            (Some(cert), Some(key)) => {
                Ok(Self { cert: cert.clone(), key: key.clone(), ours: false })
            }
            (None, None) => {
                let dir = config.state_dir()?;
                Ok(Self { cert: dir.join("ca.pem"), key: dir.join("ca.key"), ours: true })
            }
            _ => Err(StartError::new(
                "only one of CA certificate and CA key is named",
                "--ca-cert, --ca-key",
                "name both, or none to use the one in the state directory",
            )),
        }
    }
}

/// Loads the CA at `place`.
///
/// # Errors
/// A file cannot be read, or does not hold what it should.
pub fn load(place: &Place) -> Result<Authority, StartError> {
    let certificates = read(&place.cert, "certificate")?;
    let key = read(&place.key, "key")?;
    if mode_of(&place.key).is_some_and(|mode| mode & 0o007 != 0) {
        tracing::warn!(
            file = %place.key.display(),
            "every user of this machine can read the CA key; make it mode 0600"
        );
    }
    let (cert_name, key_name) = (place.cert.display().to_string(), place.key.display().to_string());
    let mut authority = Authority::from_pem(&certificates, &key, &cert_name, &key_name)?;
    let former = place.former();
    if former.exists() {
        let text = read(&former, "overlap")?;
        authority.former = Some(Former::from_pem(&text, &former.display().to_string())?);
    }
    Ok(authority)
}

/// Has a new CA take over from the one at `place`. For `overlap` from now, leaves come with a
/// certificate of the new CA by the former one, so that clients who know only that one believe
/// them. The former CA's key is gone after that.
///
/// # Errors
/// There is no CA, the former one may not certify another (unless `at_once`), or the files cannot
/// be written.
pub fn rotate(place: &Place, overlap: Duration, at_once: bool) -> Result<Authority, StartError> {
    let _lock = lock(place)?;
    let old = load(place)?;
    let mut new = Authority::generate()?;
    let former = Former::begin(&old, &new, overlap, at_once)?;
    write(place, &new)?;
    write_file(&place.former(), former.to_pem().as_bytes(), 0o644)?;
    new.former = Some(former);
    Ok(new)
}

/// Loads the CA at `place`; makes one first if the place is ours and empty. The flag says whether
/// it was made.
///
/// # Errors
/// As [`load`], or the files cannot be written.
pub fn load_or_make(place: &Place) -> Result<(Authority, bool), StartError> {
    if !place.ours || (place.cert.exists() && place.key.exists()) {
        return load(place).map(|ca| (ca, false));
    }
    let _lock = lock(place)?;
    // Another process may have made it while this one waited for the lock.
    if place.cert.exists() {
        return load(place).map(|ca| (ca, false));
    }
    // A key without certificate is a first run that was interrupted, or a lost certificate: one
    // issued again for the same key is trusted by the same clients.
    let authority = if place.key.exists() {
        let key = read(&place.key, "key")?;
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&key)).map_err(|e| {
            StartError::new(
                format!("the CA key is of no known kind ({e})"),
                place.key.display().to_string(),
                "move it away to have a new CA made",
            )
        })?;
        Authority::issue(key)?
    } else {
        Authority::generate()?
    };
    write(place, &authority)?;
    Ok((authority, true))
}

/// Makes a new CA at `place`.
///
/// # Errors
/// There is one already and `replace` is not set, or the files cannot be written.
pub fn make(place: &Place, replace: bool) -> Result<Authority, StartError> {
    let _lock = lock(place)?;
    refuse_existing(place, replace)?;
    let authority = Authority::generate()?;
    write(place, &authority)?;
    Ok(authority)
}

/// Puts a CA from elsewhere at `place`.
///
/// # Errors
/// As [`make`].
pub fn import(place: &Place, authority: &Authority, replace: bool) -> Result<(), StartError> {
    let _lock = lock(place)?;
    refuse_existing(place, replace)?;
    write(place, authority)
}

fn refuse_existing(place: &Place, replace: bool) -> Result<(), StartError> {
    if !replace && (place.cert.exists() || place.key.exists()) {
        return Err(StartError::new(
            "there is a CA already",
            place.cert.display().to_string(),
            "use --replace to overwrite it; clients must then trust the new one",
        ));
    }
    Ok(())
}

fn write(place: &Place, authority: &Authority) -> Result<(), StartError> {
    // What led to the CA that was here leads nowhere from the next one.
    if let Err(e) = fs::remove_file(place.former())
        && e.kind() != io::ErrorKind::NotFound
    {
        let what = format!("cannot remove what is left of a rotation ({e})");
        let path = place.former().display().to_string();
        return Err(StartError::new(what, path, "remove it"));
    }
    // The key first: a certificate without key would be trusted and unusable.
    write_file(&place.key, authority.key_pem().as_bytes(), 0o600)?;
    write_file(&place.cert, authority.chain_pem().as_bytes(), 0o644)
}

/// One process at a time makes a CA; the lock ends with the returned file.
fn lock(place: &Place) -> Result<File, StartError> {
    let dir = place.cert.parent().unwrap_or(Path::new("."));
    let refuse = |e: io::Error| {
        StartError::new(
            format!("cannot keep a CA here ({e})"),
            dir.display().to_string(),
            "name a directory that this user may write to with --state-dir",
        )
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(refuse)?;
    let file =
        files::open(OpenOptions::new().write(true), &dir.join("ca.lock"), 0o600).map_err(refuse)?;
    file.lock().map_err(refuse)?;
    Ok(file)
}

/// Writes a file that is there whole or not at all, and never with more rights than `mode`.
fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), StartError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|e: io::Error| {
        // The rename may have failed after the file was made; what is left of it is of no use.
        let _ = fs::remove_file(&temporary);
        StartError::new(
            format!("cannot write ({e})"),
            path.display().to_string(),
            "name a directory that this user may write to",
        )
    })
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(|e| {
        StartError::new(
            format!("cannot read the CA {what} ({e})"),
            path.display().to_string(),
            "name a file that this user may read",
        )
    })
}

fn mode_of(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|meta| meta.permissions().mode())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &Path) -> Place {
        Place { cert: dir.join("ca.pem"), key: dir.join("ca.key"), ours: true }
    }

    #[test]
    fn it_is_made_once_with_a_private_key_that_only_we_read() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(&dir.path().join("deep/er"));
        let (made, new) = load_or_make(&place).unwrap();
        assert!(new);
        assert_eq!(mode_of(&place.key).unwrap() & 0o777, 0o600);
        let (loaded, new) = load_or_make(&place).unwrap();
        assert!(!new);
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert_eq!(loaded.key_identifier(), made.key_identifier());
    }

    #[test]
    fn many_first_runs_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let place = &place(dir.path());
        let prints: Vec<String> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..8)
                .map(|_| scope.spawn(move || load_or_make(place).unwrap().0.fingerprint()))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
    }

    #[test]
    fn a_lost_certificate_is_issued_again_for_the_same_key_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let (first, _) = load_or_make(&place).unwrap();
        fs::remove_file(&place.cert).unwrap();
        let (second, new) = load_or_make(&place).unwrap();
        assert!(new);
        assert_eq!(second.subject(), first.subject());
        assert_eq!(second.key_identifier(), first.key_identifier());
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        load_or_make(&place).unwrap();
        let other = Authority::generate().unwrap();
        fs::write(&place.key, other.key_pem()).unwrap();
        let e = load_or_make(&place).unwrap_err().to_string();
        assert!(e.contains("do not belong together"), "{e}");
        fs::write(&place.key, "nonsense").unwrap();
        assert!(load_or_make(&place).unwrap_err().to_string().contains("not a PEM private key"));
        fs::remove_file(&place.key).unwrap();
        assert!(load_or_make(&place).unwrap_err().to_string().contains("cannot read the CA key"));
    }

    #[test]
    fn a_ca_is_not_overwritten_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let first = make(&place, false).unwrap();
        assert!(make(&place, false).unwrap_err().to_string().contains("already"));
        assert_ne!(make(&place, true).unwrap().fingerprint(), first.fingerprint());
    }
}
