//! Rule files may lie anywhere and be called anything, and name other files relative to themselves.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::fs;

use common::{Lab, exchange, get, sid, tuple, with_length};

#[test]
fn lists_are_found_beside_the_rules_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    // What a shell would take for a pattern, and for another name.
    let [first, second] = ["a [folder]*", r"b\?"].map(|name| folder.path().join(name));
    for place in [&first, &second] {
        fs::create_dir(place).unwrap();
    }
    fs::write(first.join("sums"), "794b6ca4586f4e8aa4a8a502d53e64c9\n").unwrap();
    fs::write(second.join("paths"), "L2xpc3RlZA==\n").unwrap();
    let by_sum = "drop http any any -> any any (msg:\"sum\"; filemd5:sums; sid:1000201;)\n";
    let by_path = "drop http any any -> any any (msg:\"path\"; http.uri; \
         dataset:isset,listed-paths,type string,load paths; sid:1000202;)\n";
    let (sums, paths) = (first.join("same name.rules"), second.join("same name.rules"));
    fs::write(&sums, by_sum).unwrap();
    fs::write(&paths, by_path).unwrap();
    let lab = Lab::start(common::RULES, |config| config.rules([&sums, &paths]));
    let verdict = |path: &'static str, body: &'static [u8]| {
        lab.run(move |worker| {
            exchange(worker, tuple(1000), &get(path), &with_length(body), 1000).unwrap()
        })
    };
    for round in 0..2 {
        assert_eq!(sid(&verdict("/x", b"listed by its sum")), Some(1_000_201), "{round}");
        assert_eq!(sid(&verdict("/x", b"not listed")), None);
        assert_eq!(sid(&verdict("/listed", b"x")), Some(1_000_202));
        lab.engine.reload().unwrap();
    }
    fs::write(&paths, "drop nonsense\n").unwrap();
    let error = lab.engine.reload().unwrap_err().to_string();
    assert!(error.contains(&format!("{}:1: ", paths.display())), "{error}");
}
