//! The limits that can be met.

use super::enumerated::enumerated;

enumerated! {
    /// A limit that was met.
    Limited {
        /// Client connections open at once.
        Connections => "connections",
        /// The same of one client.
        ConnectionsPerClient => "connections_per_client",
        /// Connections to the console.
        ConsoleConnections => "console_connections",
        /// Frames of HTTP/2 without end.
        Http2Flood => "http2-flood",
        /// Names of one client that are looked up at once.
        LookupsPerClient => "lookups_per_client",
        /// The least rate of a request's content.
        MinRate => "min-rate",
        /// Memory for windows of HTTP/2 streams.
        StreamWindows => "stream-windows",
        /// Computing time for certificates of origins.
        Verification => "verification",
        /// Wrong passwords of one client.
        WrongPasswords => "wrong_passwords",
    }
}
