//! Users with passwords, from a file of hashes.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{Output, PasswordHash, PasswordHasher, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shares::Client;
use start_error::StartError;

use super::attempts::{Attempts, Barred, Memory};
use crate::config;
use crate::lately::{Lately, Question};

/// How long a name and password that were right need no hashing again after their last use.
const KEEP_RIGHT: Duration = Duration::from_secs(300);
/// The same of wrong ones: a program that tries again and again what it was told is wrong costs
/// nothing.
const KEEP_WRONG: Duration = Duration::from_secs(10);
const KEPT: usize = 1024;
/// The longest password that is hashed.
const MAX_PASSWORD: usize = 1024;

/// Users and their password hashes.
pub struct Users {
    hashes: HashMap<String, String>,
    /// Of a password that nobody has, so that unknown names take as long as known ones.
    nobody: String,
    /// Whether a name and password belong together. One for right ones and one for wrong ones, so
    /// that a flood of these leaves those alone.
    right: Arc<Lately<()>>,
    wrong: Arc<Lately<()>>,
    settings: config::Users,
}

/// What comes of a name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// They belong together: this is the user.
    Right(Arc<str>),
    /// Nobody has looked: too many of this client's were wrong lately. In so long it may try again.
    TooMany(Duration),
    /// They do not, or there are none.
    Wrong,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.hashes.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a file with `name:hash` a line; `#` begins a comment line.
    ///
    /// # Errors
    /// It cannot be read, or a line is not of this form.
    pub fn load(path: &Path, settings: &config::Users) -> Result<Self, StartError> {
        let text = fs::read_to_string(path).map_err(|e| {
            StartError::new(
                format!("cannot read the users ({e})"),
                path.display().to_string(),
                "name a readable file with name:hash a line (users.file)",
            )
        })?;
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |what: &str| {
                StartError::new(
                    what,
                    format!("{}:{}", path.display(), number + 1),
                    "write name:hash, with a hash from `meergate hash-password`",
                )
            };
            let (name, hash) = line.split_once(':').ok_or_else(|| refuse("no name:hash"))?;
            if name.is_empty() {
                return Err(refuse("a user without a name"));
            }
            PasswordHash::new(hash).map_err(|_| refuse("not a password hash"))?;
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(refuse("a user twice"));
            }
        }
        let nobody = hash("nobody")?;
        let mut settings = settings.clone();
        settings.realm = settings.realm.replace(['"', '\\'], "'");
        let (right, wrong) = (Arc::new(Lately::new(KEPT)), Arc::new(Lately::new(KEPT)));
        Ok(Self { hashes, nobody, right, wrong, settings })
    }

    /// What browsers show when they ask for the password.
    pub fn realm(&self) -> &str {
        &self.settings.realm
    }

    /// Whether `name` and `password`, which `client` sent, belong together.
    pub async fn check(
        &self,
        attempts: &Arc<Attempts>,
        client: Client,
        name: &str,
        password: &[u8],
    ) -> Login {
        if password.len() > MAX_PASSWORD {
            return Login::Wrong;
        }
        let key = key(name, password);
        if self.right.answer(&key).is_some() {
            // Whoever goes on using it needs no hashing, however busy that is with others'.
            self.right.note(key, (), KEEP_RIGHT);
            return Login::Right(name.into());
        }
        if self.wrong.answer(&key).is_some() {
            return Login::Wrong;
        }
        let known = self.hashes.get(name);
        let hash = known.unwrap_or(&self.nobody).clone();
        let (is_known, password) = (known.is_some(), password.to_vec());
        let (rights, wrongs) = (self.right.clone(), self.wrong.clone());
        let verify = move |memory: &mut Memory| {
            let right = fits(&hash, &password, memory) && is_known;
            match right {
                true => rights.note(key, (), KEEP_RIGHT),
                false => wrongs.note(key, (), KEEP_WRONG),
            }
            right
        };
        match attempts.run(client, &self.settings, verify).await {
            Ok(true) => Login::Right(name.into()),
            Ok(false) => Login::Wrong,
            Err(Barred(wait)) => Login::TooMany(wait),
        }
    }

    /// The same of a `Proxy-Authorization` value (Basic, RFC 7617).
    pub async fn check_basic(
        &self,
        attempts: &Arc<Attempts>,
        client: Client,
        value: &[u8],
    ) -> Login {
        match basic(value) {
            Some((name, password)) => self.check(attempts, client, &name, &password).await,
            None => Login::Wrong,
        }
    }
}

/// Whether `hash` is one of `password`.
fn fits(hash: &str, password: &[u8], memory: &mut Memory) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    recompute(&hash, password, memory).is_some_and(|again| Some(again) == hash.hash)
}

/// The hash of `password` with all else as in `hash`; none if that is not one of Argon2. To be compared
/// as it is: that takes as long whatever the difference.
fn recompute(hash: &PasswordHash<'_>, password: &[u8], memory: &mut Memory) -> Option<Output> {
    let algorithm = Algorithm::try_from(hash.algorithm).ok()?;
    let version = match hash.version {
        Some(version) => Version::try_from(version).ok()?,
        None => Version::default(),
    };
    let params = Params::try_from(hash).ok()?;
    let mut buffer = [0; Salt::MAX_LENGTH];
    let salt = hash.salt?.decode_b64(&mut buffer).ok()?;
    memory.resize(params.block_count().max(memory.len()), Block::default());
    let argon2 = Argon2::new(algorithm, version, params);
    Output::init_with(hash.hash?.len(), |out| {
        Ok(argon2.hash_password_into_with_memory(password, salt, out, memory.as_mut_slice())?)
    })
    .ok()
}

/// Name and password.
fn basic(value: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|b| *b == b':')?;
    let name = str::from_utf8(&pair[..colon]).ok()?;
    Some((name.to_owned(), pair[colon + 1..].to_vec()))
}

/// An Argon2id hash of `password` with a new salt, as `users.file` holds them.
///
/// # Errors
/// The system has no random numbers.
pub fn hash(password: &str) -> Result<String, StartError> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(|e| {
        StartError::new(format!("cannot hash ({e})"), "the password", "choose another one")
    })?;
    Ok(hash.to_string())
}

fn key(name: &str, password: &[u8]) -> Question {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&(name.len() as u64).to_be_bytes());
    context.update(name.as_bytes());
    context.update(password);
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn users(text: &str) -> Result<Users, StartError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, text).unwrap();
        let realm = "a \"realm\"".into();
        Users::load(&path, &config::Users { realm, wrong_passwords: 1, ..config::Users::default() })
    }

    fn client(last: u8) -> Client {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let users = users(&format!("# us\nalice:{}\n", hash("se:cret").unwrap())).unwrap();
        let attempts = Arc::new(Attempts::new(&crate::metrics::Metrics::new()));
        let right = Login::Right("alice".into());
        let mut last = 0;
        for (name, password, expected) in [
            ("alice", "se:cret", &right),
            ("alice", "se:cret", &right),
            ("alice", "other", &Login::Wrong),
            ("alice", "other", &Login::Wrong),
            ("bob", "se:cret", &Login::Wrong),
            ("bob", "nobody", &Login::Wrong),
        ] {
            last += 1;
            let login = users.check(&attempts, client(last), name, password.as_bytes()).await;
            assert_eq!(login, *expected, "{name}:{password}");
        }
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair)).into_bytes();
        let value = basic("alice:se:cret");
        assert_eq!(users.check_basic(&attempts, client(0), &value).await, right);
        for wrong in [basic("alice"), b"Basic ???".to_vec(), b"Bearer x".to_vec(), b"".to_vec()] {
            let login = users.check_basic(&attempts, client(0), &wrong).await;
            assert_eq!(login, Login::Wrong);
        }
        assert_eq!(users.realm(), "a 'realm'");
    }

    #[tokio::test]
    async fn a_client_with_many_wrong_passwords_is_not_looked_at_for_a_while() {
        let users = users(&format!("alice:{}\n", hash("right").unwrap())).unwrap();
        let attempts = Arc::new(Attempts::new(&crate::metrics::Metrics::new()));
        let login = async |last, password: &str| {
            users.check(&attempts, client(last), "alice", password.as_bytes()).await
        };
        let mut wrong = 0;
        let barred = loop {
            match login(1, &format!("wrong {wrong}")).await {
                Login::Wrong => wrong += 1,
                other => break other,
            }
        };
        assert!(wrong >= 1 && matches!(barred, Login::TooMany(_)), "{wrong}: {barred:?}");
        // Others are, and what was right for one needs no look for the other.
        assert_eq!(login(2, "right").await, Login::Right("alice".into()));
        assert_eq!(login(1, "right").await, Login::Right("alice".into()));
    }

    /// Our own way of hashing, in memory that is used again, against the library's.
    #[test]
    fn hashes_of_all_kinds_are_recomputed() {
        let mut memory = Memory::new();
        for (algorithm, version, cost) in [
            (Algorithm::Argon2id, Version::V0x13, 64),
            (Algorithm::Argon2i, Version::V0x10, 8),
            (Algorithm::Argon2d, Version::V0x13, 256),
            (Algorithm::Argon2id, Version::V0x13, 16),
        ] {
            let params = Params::new(cost, 2, 1, None).unwrap();
            let salt = SaltString::generate(&mut OsRng);
            let hasher = Argon2::new(algorithm, version, params);
            let hash = hasher.hash_password(b"right", &salt).unwrap().to_string();
            assert!(fits(&hash, b"right", &mut memory), "{hash}");
            assert!(!fits(&hash, b"wrong", &mut memory), "{hash}");
        }
        assert_eq!(memory.len(), 256);
        for broken in ["", "$argon2id$v=19$m=16,t=2,p=1", "$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ"]
        {
            assert!(!fits(broken, b"", &mut memory), "{broken}");
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        let hash = hash("x").unwrap();
        for (text, line) in [
            ("alice\n".to_owned(), ":1"),
            (format!("\n:{hash}\n"), ":2"),
            ("alice:plain\n".to_owned(), ":1"),
            (format!("a:{hash}\na:{hash}\n"), ":2"),
        ] {
            let e = users(&text).unwrap_err().to_string();
            assert!(e.contains(line), "{e}");
        }
    }
}
