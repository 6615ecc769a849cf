//! How connections and transactions end.

use super::enumerated::enumerated;

enumerated! {
    /// Why a client connection ended.
    ConnectionEnd {
        /// A request that cannot be read in one way only, or frames that break the protocol.
        BadRequest => "bad-request",
        /// No SOCKS5, or nothing that we serve of it.
        BadSocks => "bad-socks",
        /// The way around us leads where a rule lets nobody.
        Blocked => "blocked",
        /// Nobody looked into it, to its end.
        Bypassed => "bypassed",
        /// The same, until one of the connections failed.
        BypassedFailed => "bypassed-failed",
        /// The same, until nothing moved in time.
        BypassedIdle => "bypassed-idle",
        /// The client ended its handshake with an alert.
        ClientAlert => "client-alert",
        /// The client ended it where it may.
        ClientClosed => "client-closed",
        /// The client ended it, or it failed, in the midst of something.
        ClientGone => "client-gone",
        /// It ended during the client's handshake.
        Closed => "closed",
        /// A CONNECT inside a tunnel.
        ConnectInside => "connect-inside",
        /// A response could not be completed.
        Cut => "cut",
        /// The last response that it takes is complete.
        Done => "done",
        /// An inspection service dropped its TLS handshake, on the way around us.
        Dropped => "dropped",
        /// It could not be handed on.
        Failed => "failed",
        /// HTTP/2 frames without end.
        Flood => "flood",
        /// No certificate could be forged.
        Forge => "forge",
        /// A stream that is HTTP, and can't be read as that.
        HttpInside => "http-inside",
        /// Nothing was asked in time.
        Idle => "idle",
        /// The client offers only protocols that cannot be inspected.
        NoProtocol => "no-protocol",
        /// The ClientHello names no host, where that is to say where it goes.
        NoServerName => "no-server-name",
        /// A stream that no service could look into, or not to its end.
        NotInspected => "not-inspected",
        /// Something else than TLS, where only that is taken.
        NotTls => "not-tls",
        /// The origin of a bypass cannot be reached.
        OriginUnreachable => "origin-unreachable",
        /// A request that leads nowhere was answered with a page.
        Refused => "refused",
        /// A rule cut it.
        Reset => "reset",
        /// The client said nothing.
        Silent => "silent",
        /// A request's head did not come in time.
        SlowClient => "slow-client",
        /// A service blocked a stream.
        StreamBlocked => "stream-blocked",
        /// A stream went to its end.
        StreamDone => "stream-done",
        /// A stream, until one of the connections failed.
        StreamFailed => "stream-failed",
        /// A stream, until nothing moved in time.
        StreamIdle => "stream-idle",
        /// The client's handshake took too long.
        Timeout => "timeout",
        /// What the client sent is not acceptable TLS.
        Tls => "tls",
        /// A stream in which TLS began.
        TlsInside => "tls-inside",
        /// Its TLS handshake could not be shown to the inspection services, on the way around us.
        Uninspected => "uninspected",
        /// The client did not say who it is.
        Unidentified => "unidentified",
        /// Neither TLS nor HTTP.
        UnknownProtocol => "unknown-protocol",
        /// Another protocol was agreed on, and spoken to its end.
        UpgradedDone => "upgraded-done",
        /// The same, until one of the connections failed.
        UpgradedFailed => "upgraded-failed",
        /// The same, until nothing moved in time.
        UpgradedIdle => "upgraded-idle",
        /// The same, until a side broke the protocol or a limit.
        UpgradedRefused => "upgraded-refused",
    }
}

enumerated! {
    /// How a transaction ended.
    Outcome {
        /// A service answered it.
        Answered => "answered",
        /// The request cannot be read in one way only.
        BadRequest => "bad-request",
        /// The response cannot.
        BadResponse => "bad-response",
        /// A service blocked it.
        Blocked => "blocked",
        /// The client went away.
        ClientGone => "client-gone",
        /// The client has its response.
        Forwarded => "forwarded",
        /// The origin takes it over HTTP/1.1 only.
        Http11Required => "http11-required",
        /// The origin's connection ended too early.
        OriginGone => "origin-gone",
        /// The origin can't be reached or trusted.
        OriginUnreachable => "origin-unreachable",
        /// We don't let it pass.
        Refused => "refused",
        /// A rule cut it.
        Reset => "reset",
        /// No service could be asked, or it failed.
        ServiceFailed => "service-failed",
        /// The request's content came too slowly.
        SlowClient => "slow-client",
        /// The program ended.
        Stopped => "stopped",
        /// Nothing moved in time.
        Timeout => "timeout",
        /// Another protocol was agreed on.
        Upgraded => "upgraded",
    }
}

enumerated! {
    /// How a WebSocket ended that services saw.
    WebSocketEnd {
        /// A service blocked a message.
        Blocked => "blocked",
        /// Its messages found no memory.
        Crowded => "crowded",
        /// Both sides ended it.
        Done => "done",
        /// One of the connections failed.
        Failed => "failed",
        /// Nothing was said in time.
        Idle => "idle",
        /// A side broke the protocol.
        Malformed => "malformed",
        /// A service failed.
        NotInspected => "not-inspected",
        /// A message was too long.
        TooLong => "too-long",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_as_logs_and_metrics_have_them() {
        assert_eq!(
            serde_json::to_string(&ConnectionEnd::BypassedIdle).unwrap(),
            "\"bypassed-idle\""
        );
        assert_eq!(Outcome::Http11Required.to_string(), "http11-required");
    }
}
