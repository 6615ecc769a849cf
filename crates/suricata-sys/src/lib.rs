//! One C shim around libsuricata, and its raw functions.
