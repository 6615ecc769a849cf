//! File descriptors: so many for each duty, so that none can take another's.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Those of a client connection: its own, one to an origin and one to a service.
const CONNECTION: u64 = 3;
/// For listeners, logs, captures, event loops, name lookups, a successor.
const PROGRAM: u64 = 128;

/// Asks the system for as many as the process may have.
pub(crate) fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "the limit of open files cannot be raised");
    }
}

/// Lowers `limits.connections` to what there are descriptors for.
pub(crate) fn fit(config: &mut Config) {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let most = connections(soft, config.console.connections);
    let wanted = config.limits.connections as u64;
    if wanted > most {
        tracing::warn!(
            open_files = soft,
            connections = most,
            "the limit of open files allows fewer connections than limits.connections ({wanted}): \
             raise it (LimitNOFILE of the unit, ulimit -n) or lower limits.connections"
        );
        config.limits.connections = usize::try_from(most).unwrap_or(usize::MAX);
    }
}

/// How many client connections fit into `descriptors` beside the console's `console` and what the
/// program itself needs; one at least.
fn connections(descriptors: u64, console: u64) -> u64 {
    (descriptors.saturating_sub(PROGRAM).saturating_sub(console) / CONNECTION).max(1)
}

#[cfg(test)]
mod tests {
    use super::connections;

    #[test]
    fn each_duty_has_its_own() {
        assert!(connections(65_536, 64) >= 20_000, "the unit's limit is enough for the default");
        assert_eq!(connections(1024, 64), 277);
        assert_eq!(connections(100, 64), 1);
    }
}
