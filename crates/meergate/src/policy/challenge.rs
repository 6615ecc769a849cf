//! Credentials of an explicit proxy's clients, compared on each request.

use std::sync::Arc;
use std::time::Duration;

use http_wire::RequestHead;
use shares::Client;
use tokio::time::timeout;

use super::{Attempts, Login, Users};

/// What is answered to a request that nobody's credentials came with; its connection ends.
pub fn challenge(users: &Users) -> String {
    format!(
        "HTTP/1.1 407 Proxy Authentication Required\r\n\
         Proxy-Authenticate: Basic realm=\"{}\", charset=\"UTF-8\"\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n",
        users.realm()
    )
}

/// Whether the request is `user`'s, to whom its connection belongs: a connection that others share, as
/// behind a proxy of their own, lends nobody the rights of whoever came first. `limit` is how long
/// that may take to find out; a password that has to be looked at counts as an attempt of `client`.
pub async fn is_of(
    user: Option<&Arc<str>>,
    users: &Users,
    attempts: &Arc<Attempts>,
    client: Client,
    head: &RequestHead,
    limit: Duration,
) -> bool {
    let Some(field) = head.field("Proxy-Authorization") else { return false };
    let login = timeout(limit, users.check_basic(attempts, client, field.value)).await;
    matches!(login, Ok(Login::Right(named)) if Some(&named) == user)
}
