//! Pages that clients see when something was blocked or failed.
