//! An ICAP client: services, OPTIONS cache, connection pools, chains, balancing and failure policy.
