//! The list of traps names tests that exist.

use std::fs;

use e2e::programs::root;

#[test]
fn every_test_that_the_list_of_traps_names_exists() {
    let list = fs::read_to_string(root().join("docs/icap-traps.md")).unwrap();
    let names: Vec<(&str, &str)> =
        list.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(names.len() > 60, "{}", names.len());
    for (file, test) in names {
        let path = root().join("crates").join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}.rs: {e}"));
        // Tables of conformance have their tests without `fn`.
        let exists = source.lines().any(|line| {
            let line = line.trim_start().trim_start_matches("async ");
            line == format!("fn {test}() {{") || line == format!("{test} {{")
        });
        assert!(exists, "{file}.rs has no test {test}");
    }
}
