//! Words that only metrics and records have: what is counted apart.

use super::enumerated::enumerated;

enumerated! {
    /// What a client speaks.
    Protocol {
        /// HTTP/2.
        H2 => "h2",
        /// HTTP/1.1 and before.
        Http => "http",
    }
}

enumerated! {
    /// A side of ours.
    Side {
        /// Towards the client.
        Client => "client",
        /// Towards the origin.
        Upstream => "upstream",
    }
}

enumerated! {
    /// How a TLS handshake was done.
    Handshake {
        /// With all of it.
        Full => "full",
        /// With what a former one agreed on.
        Resumed => "resumed",
    }
}

impl Handshake {
    /// That of a session that `is_resumed`, or is not.
    pub fn of(is_resumed: bool) -> Self {
        if is_resumed { Self::Resumed } else { Self::Full }
    }
}

enumerated! {
    /// What became of a certificate's chain that was verified.
    Checked {
        /// It is not valid.
        Bad => "bad",
        /// It is, with intermediates that the origin left out.
        Completed => "completed",
        /// It is.
        Valid => "valid",
    }
}

enumerated! {
    /// What became of showing a connection's TLS handshake to the services that take streams.
    Mirrored {
        /// One of them dropped it.
        Blocked => "blocked",
        /// It could not be shown, or not be judged: nothing passed.
        Failed => "failed",
        /// None of the services takes streams.
        NoService => "no-service",
        /// A rule says that it is not shown.
        Off => "off",
        /// They passed it.
        Passed => "passed",
        /// It went on without a service that failed.
        ServiceBypassed => "service-bypassed",
        /// It was passed as far as it went: the handshake with the origin failed, or the client left.
        Unfinished => "unfinished",
    }
}

enumerated! {
    /// What became of a password that was hashed.
    Password {
        /// It is the user's.
        Right => "right",
        /// It is not.
        Wrong => "wrong",
    }
}

enumerated! {
    /// What became of a reload.
    Reloaded {
        /// The former settings stay in force.
        Failed => "failed",
        /// The new ones are.
        Ok => "ok",
    }
}

enumerated! {
    /// A log of records.
    LogName {
        /// One line a client connection.
        Connections => "connections",
        /// One line a transaction.
        Transactions => "transactions",
    }
}

enumerated! {
    /// What a service did with a message.
    Deed {
        /// It answered with its own.
        Adapted => "adapted",
        /// It was gone around.
        Bypassed => "bypassed",
        /// It asked not to see it.
        Ignored => "ignored",
        /// Something that this program does not know.
        Other => "other",
        /// It let it pass.
        Passed => "passed",
    }
}
