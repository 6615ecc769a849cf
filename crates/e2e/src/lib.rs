//! End-to-end tests: both programs, the real peers, over real sockets.
