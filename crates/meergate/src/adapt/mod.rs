//! One transaction's way through the ICAP services.
