//! HTTP/1 heads kept byte for byte, message framing and hop-by-hop rules, without IO.
