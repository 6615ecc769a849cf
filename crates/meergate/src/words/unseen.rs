//! Why bytes pass that nobody has looked into.

use super::enumerated::enumerated;

enumerated! {
    /// Why bytes passed without inspection; `docs/settings.md` lists them.
    Unseen {
        /// A rule bypasses it.
        Bypass => "bypass",
        /// Content that services were sent in a coding that they do not decode.
        Coding => "coding",
        /// The head of an interim response.
        Interim => "interim",
        /// A service changed it after another had seen it.
        LateChange => "late-change",
        /// No service took part.
        NoService => "no-service",
        /// A part of a resource without an overlap.
        Range => "range",
        /// What a service answered, and no other one saw.
        ServiceAnswer => "service-answer",
        /// It went on without a service that failed.
        ServiceBypassed => "service-bypassed",
        /// The services asked not to see it.
        ServiceIgnored => "service-ignored",
        /// Trailers of a message that a service passed without reading any.
        Trailers => "trailers",
        /// What is said after an upgrade to another protocol.
        Upgrade => "upgrade",
    }
}

enumerated! {
    /// The direction of counted bytes.
    Towards {
        /// From the server to the client.
        Client => "to_client",
        /// From the client to the server.
        Server => "to_server",
    }
}
