//! An ICAP server: listeners, connections and a Service trait.
