//! A public rule set of 14,000 rules loads to the last rule with the built-in settings.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // A test.

mod common;

use std::path::{Path, PathBuf};

use common::{exchange, get, tuple, with_length};
use suricata::{Engine, EngineConfig, Verdict};

#[test]
fn all_of_et_open_loads_and_clean_traffic_passes() {
    let shared = std::env::var_os("MEERGATE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let rules = shared.join("data/et-open/emerging-2025-08.rules");
    if !rules.exists() {
        eprintln!("skipped: {} is not there (set MEERGATE_SHARED)", rules.display());
        return;
    }
    let (engine, seeds) = Engine::start(EngineConfig::new().rules([rules])).unwrap();
    assert_eq!((engine.rules().good, engine.rules().bad), (14_019, 0));
    for seed in seeds {
        let mut worker = seed.attach().unwrap();
        let verdict =
            exchange(&mut worker, tuple(1), &get("/"), &with_length(b"hello"), 100).unwrap();
        assert_eq!(verdict, Verdict::Pass);
    }
    engine.stop().unwrap();
}
