//! ICAP messages, encapsulation, chunks, previews, client and server state machines, without IO.
