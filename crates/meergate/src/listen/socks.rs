//! SOCKS5 (RFC 1928) with or without password (RFC 1929): CONNECT only.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use shares::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::intercept;
use crate::io::Io;
use crate::policy::{Attempts, Login, Users};
use crate::session::Arrival;
use crate::upstream::Route;
use crate::words::{ConnectionEnd, Target};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const NOTHING_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;

/// RFC 1928 section 6, with the bound address that nobody looks at.
const fn reply(code: u8) -> [u8; 10] {
    [VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0]
}
const SUCCEEDED: u8 = 0;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;

/// Serves one connection to its end; why it ended.
pub(super) async fn serve(
    arrival: Arrival,
    mut client: Io,
    mut read_ahead: BytesMut,
) -> ConnectionEnd {
    let limit = arrival.settings.config.limits.begin_timeout.0;
    let users = arrival.settings.users.clone();
    let door = users.as_deref().map(|users| Door {
        users,
        attempts: &arrival.shared.attempts,
        client: arrival.party(),
    });
    match timeout(limit, negotiate(&mut client, &mut read_ahead, door)).await {
        Ok(Ok((target, user))) => {
            let route = Route::plain(target).of(arrival.client);
            intercept::serve(Arrival { user, ..arrival }, client, read_ahead, route).await
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "no SOCKS5");
            ConnectionEnd::BadSocks
        }
        Err(_) => ConnectionEnd::Silent,
    }
}

/// Where a client has to say who it is.
struct Door<'a> {
    users: &'a Users,
    attempts: &'a Arc<Attempts>,
    client: Client,
}

async fn negotiate(
    client: &mut Io,
    buffer: &mut BytesMut,
    door: Option<Door<'_>>,
) -> io::Result<(Target, Option<Arc<str>>)> {
    let greeting = take(client, buffer, 2).await?;
    if greeting[0] != VERSION {
        return Err(bad("not version 5"));
    }
    let methods = take(client, buffer, greeting[1].into()).await?;
    let method = if door.is_some() { PASSWORD } else { NO_AUTHENTICATION };
    if !methods.contains(&method) {
        client.write_all(&[VERSION, NOTHING_ACCEPTABLE]).await?;
        return Err(bad("the client does not authenticate in the way that is asked for"));
    }
    client.write_all(&[VERSION, method]).await?;
    let user = match door {
        Some(door) => Some(identify(client, buffer, door).await?),
        None => None,
    };

    let request = take(client, buffer, 4).await?;
    if request[0] != VERSION {
        return Err(bad("not version 5"));
    }
    if request[1] != CONNECT {
        client.write_all(&reply(COMMAND_NOT_SUPPORTED)).await?;
        return Err(bad("a command other than CONNECT"));
    }
    let host = match request[3] {
        1 => {
            let mut octets = [0; 4];
            octets.copy_from_slice(&take(client, buffer, 4).await?);
            Ipv4Addr::from(octets).to_string()
        }
        3 => {
            let length = take(client, buffer, 1).await?[0];
            let name = take(client, buffer, length.into()).await?;
            String::from_utf8(name.to_vec()).map_err(|_| bad("a host name that is not text"))?
        }
        4 => {
            let mut octets = [0; 16];
            octets.copy_from_slice(&take(client, buffer, 16).await?);
            Ipv6Addr::from(octets).to_string()
        }
        _ => {
            client.write_all(&reply(ADDRESS_TYPE_NOT_SUPPORTED)).await?;
            return Err(bad("an address of unknown type"));
        }
    };
    let port = take(client, buffer, 2).await?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    let target = match Target::new(&host, port) {
        Ok(target) => target,
        Err(e) => {
            client.write_all(&reply(ADDRESS_TYPE_NOT_SUPPORTED)).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, e));
        }
    };
    // As with CONNECT, the client speaks first; an origin that fails is explained on a page.
    client.write_all(&reply(SUCCEEDED)).await?;
    Ok((target, user))
}

/// RFC 1929.
async fn identify(client: &mut Io, buffer: &mut BytesMut, door: Door<'_>) -> io::Result<Arc<str>> {
    let start = take(client, buffer, 2).await?;
    if start[0] != PASSWORD_VERSION {
        return Err(bad("a password in an unknown form"));
    }
    let name = take(client, buffer, start[1].into()).await?;
    let length = take(client, buffer, 1).await?[0];
    let password = take(client, buffer, length.into()).await?;
    let login = match str::from_utf8(&name) {
        Ok(name) => door.users.check(door.attempts, door.client, name, &password).await,
        Err(_) => Login::Wrong,
    };
    // Any status but 0 is a failure; there are no words for the reason.
    let status = u8::from(!matches!(login, Login::Right(_)));
    client.write_all(&[PASSWORD_VERSION, status]).await?;
    match login {
        Login::Right(user) => Ok(user),
        Login::TooMany(_) => Err(bad("too many wrong passwords of this client")),
        Login::Wrong => Err(bad("a wrong name or password")),
    }
}

/// The next `length` bytes of the client's.
async fn take(client: &mut Io, buffer: &mut BytesMut, length: usize) -> io::Result<BytesMut> {
    while buffer.len() < length {
        if client.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let taken = BytesMut::from(&buffer[..length]);
    buffer.advance(length);
    Ok(taken)
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    /// What becomes of `sent`, and what is answered.
    async fn talk(sent: &[u8], users: Option<&Users>) -> (io::Result<String>, Vec<u8>) {
        let (mut far, near) = duplex(1024);
        let mut near: Io = Box::new(near);
        far.write_all(sent).await.unwrap();
        far.shutdown().await.unwrap();
        let attempts = Arc::new(Attempts::new(&crate::metrics::Metrics::new()));
        let client = std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into();
        let door = users.map(|users| Door { users, attempts: &attempts, client });
        let result = negotiate(&mut near, &mut BytesMut::new(), door).await;
        let result = result.map(|(target, user)| match user {
            Some(user) => format!("{user}@{target}"),
            None => target.to_string(),
        });
        drop(near);
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        (result, answer)
    }

    #[tokio::test]
    async fn targets_of_all_types_are_understood() {
        let v6 = [&[5, 1, 0, 5, 1, 0, 4][..], &[0; 15], &[1, 0, 80]].concat();
        for (sent, target) in [
            (&b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb"[..], "127.0.0.1:443"),
            (b"\x05\x02\x02\x00\x05\x01\x00\x03\x09A.example\x00\x50", "a.example:80"),
            (&v6, "[::1]:80"),
        ] {
            let (result, answer) = talk(sent, None).await;
            assert_eq!(result.unwrap(), target);
            assert_eq!(answer, b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00");
        }
    }

    #[tokio::test]
    async fn what_is_not_served_is_refused_with_the_code_for_it() {
        for (sent, answer) in [
            (&b"\x04\x01"[..], &b""[..]),
            (b"\x05\x01\x01", b"\x05\xff"),
            (b"\x05\x01\x00\x05\x02\x00\x01", b"\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"),
            (b"\x05\x01\x00\x05\x01\x00\x09", b"\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"),
            (
                b"\x05\x01\x00\x05\x01\x00\x03\x03a b\x00\x50",
                b"\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00",
            ),
            (b"\x05\x01\x00\x05\x01\x00\x03\xff", b"\x05\x00"),
            (b"", b""),
        ] {
            let (result, said) = talk(sent, None).await;
            assert!(result.is_err(), "{sent:?}");
            assert_eq!(said, answer, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn passwords_are_asked_for_where_users_are_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let line = format!("alice:{}\n", crate::policy::hash_password("pw").unwrap());
        std::fs::write(&path, line).unwrap();
        let users = Users::load(&path, &crate::config::Users::default()).unwrap();
        let request = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50";

        let right = [&b"\x05\x02\x00\x02\x01\x05alice\x02pw"[..], request].concat();
        let (result, answer) = talk(&right, Some(&users)).await;
        assert_eq!(result.unwrap(), "alice@127.0.0.1:80");
        assert_eq!(answer, b"\x05\x02\x01\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00");

        let wrong = [&b"\x05\x01\x02\x01\x05alice\x02no"[..], request].concat();
        let (result, answer) = talk(&wrong, Some(&users)).await;
        assert!(result.is_err());
        assert_eq!(answer, b"\x05\x02\x01\x01");

        let without = [&b"\x05\x01\x00"[..], request].concat();
        assert_eq!(talk(&without, Some(&users)).await.1, b"\x05\xff");
    }
}
