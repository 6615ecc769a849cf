//! Users with passwords, from a file of hashes.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::error::StartError;

/// Hashes computed at once: each takes about 19 MiB and some 20 ms, and anyone may ask.
const AT_ONCE: usize = 4;
/// How long a name and password that were right need no hashing again.
const KEEP: Duration = Duration::from_secs(300);
const KEPT: usize = 1024;
/// The longest password that is hashed.
const MAX_PASSWORD: usize = 1024;

/// Users and their password hashes.
pub struct Users {
    hashes: HashMap<String, String>,
    /// Of a password that nobody has, so that unknown names take as long as known ones.
    nobody: String,
    right: Cache<[u8; 32], Instant>,
    slots: Semaphore,
    realm: String,
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
    pub fn load(path: &Path, realm: &str) -> Result<Self, StartError> {
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
        let right = Cache::new(KEPT);
        let slots = Semaphore::new(AT_ONCE);
        Ok(Self { hashes, nobody, right, slots, realm: realm.replace(['"', '\\'], "'") })
    }

    /// What browsers show when they ask for the password.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The user's name, if `name` and `password` belong together.
    pub async fn check(&self, name: &str, password: &[u8]) -> Option<Arc<str>> {
        if password.len() > MAX_PASSWORD {
            return None;
        }
        let key = key(name, password);
        if self.right.get(&key).is_some_and(|until| Instant::now() < until) {
            return Some(name.into());
        }
        let known = self.hashes.get(name);
        let hash = known.unwrap_or(&self.nobody).clone();
        let password = password.to_vec();
        let slot = self.slots.acquire().await;
        let right = tokio::task::spawn_blocking(move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
        })
        .await
        .unwrap_or(false);
        drop(slot);
        if known.is_none() || !right {
            return None;
        }
        self.right.insert(key, Instant::now() + KEEP);
        Some(name.into())
    }

    /// The user of a `Proxy-Authorization` value (Basic, RFC 7617).
    pub async fn check_basic(&self, value: &[u8]) -> Option<Arc<str>> {
        let (scheme, rest) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let pair = STANDARD.decode(rest.trim_ascii()).ok()?;
        let colon = pair.iter().position(|b| *b == b':')?;
        let name = str::from_utf8(&pair[..colon]).ok()?;
        self.check(name, &pair[colon + 1..]).await
    }
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

fn key(name: &str, password: &[u8]) -> [u8; 32] {
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
    use super::*;

    fn users(text: &str) -> Result<Users, StartError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, text).unwrap();
        Users::load(&path, "a \"realm\"")
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let users = users(&format!("# us\nalice:{}\n", hash("se:cret").unwrap())).unwrap();
        assert_eq!(users.check("alice", b"se:cret").await.as_deref(), Some("alice"));
        assert_eq!(users.check("alice", b"se:cret").await.as_deref(), Some("alice"));
        assert_eq!(users.check("alice", b"other").await, None);
        assert_eq!(users.check("bob", b"se:cret").await, None);
        assert_eq!(users.check("bob", b"nobody").await, None);
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair)).into_bytes();
        let right = users.check_basic(&basic("alice:se:cret")).await;
        assert_eq!(right.as_deref(), Some("alice"));
        for wrong in [basic("alice"), b"Basic ???".to_vec(), b"Bearer x".to_vec(), b"".to_vec()] {
            assert_eq!(users.check_basic(&wrong).await, None);
        }
        assert_eq!(users.realm(), "a 'realm'");
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
