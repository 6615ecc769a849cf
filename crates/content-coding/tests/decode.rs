//! Right contents, however they come.

mod common;

use common::{PLAIN, coded, codings, decode, whole};

#[test]
fn every_coding_gives_the_content() {
    for (name, coded) in coded() {
        let outcome = whole(name, &coded);
        assert_eq!(outcome.error, None, "{name}");
        assert!(outcome.plain == PLAIN, "{name}");
    }
}

#[test]
fn every_cut_gives_the_same() {
    for (name, coded) in coded() {
        let codings = codings(name);
        for cut in 0..=coded.len() {
            let (before, after) = coded.split_at(cut);
            let outcome = decode(&codings, [before, after], 4096);
            assert_eq!(outcome.error, None, "{name} cut at {cut}");
            assert!(outcome.plain == PLAIN, "{name} cut at {cut}");
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_and_leave_one_by_one_are_the_same() {
    for (name, coded) in coded() {
        let outcome = decode(&codings(name), coded.chunks(1), 1);
        assert_eq!(outcome.error, None, "{name}");
        assert!(outcome.plain == PLAIN, "{name}");
    }
}

#[test]
fn a_content_of_no_bytes_is_none_in_every_coding() {
    for (name, _) in coded() {
        let outcome = whole(name, b"");
        assert_eq!((outcome.error, outcome.plain), (None, Vec::new()), "{name}");
    }
}
