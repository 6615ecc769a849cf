//! Which codings the fields of a message say.

use content_coding::{Coding, Codings, Unsupported};

fn parse(values: &[&str]) -> Result<Vec<Coding>, Unsupported> {
    Codings::parse(values.iter().map(|value| value.as_bytes()))
        .map(|codings| codings.applied().to_vec())
}

fn unknown(token: &str) -> Result<Vec<Coding>, Unsupported> {
    Err(Unsupported::Unknown(token.as_bytes().into()))
}

#[test]
fn one_list_over_all_fields_in_the_order_of_applying() {
    let three = vec![Coding::Brotli, Coding::Gzip, Coding::Zstd];
    assert_eq!(parse(&["br, gzip,zstd"]), Ok(three.clone()));
    assert_eq!(parse(&["BR", " X-Gzip\t", "zStd"]), Ok(three.clone()));
    assert_eq!(parse(&["br \t,\tgzip", "zstd"]), Ok(three));
    assert_eq!(parse(&["deflate"]), Ok(vec![Coding::Deflate]));
}

#[test]
fn nothing_is_nothing() {
    for values in [&[][..], &[""], &["identity"], &[" , ", "IDENTITY", ""]] {
        assert_eq!(parse(values), Ok(vec![]), "{values:?}");
    }
}

#[test]
fn what_clients_read_differently_is_refused() {
    for values in [&["gzip, identity"][..], &["identity", "br"], &["gzip,"], &["gzip", ""]] {
        assert_eq!(parse(values), Err(Unsupported::NothingBeside), "{values:?}");
    }
}

#[test]
fn more_than_three_and_unknown_ones() {
    assert_eq!(parse(&["gzip", "gzip, gzip, gzip"]), Err(Unsupported::TooMany));
    assert_eq!(parse(&["compress"]), unknown("compress"));
    assert_eq!(parse(&["gzip;q=1"]), unknown("gzip;q=1"));
    assert_eq!(parse(&["gz ip"]), unknown("gz ip"));
    assert_eq!(parse(&["\"gzip\""]), unknown("\"gzip\""));
    assert_eq!(parse(&["gzip\u{b}"]), unknown("gzip\u{b}"));
    assert_eq!(parse(&["dcb"]), unknown("dcb"));
    // So much of it, and no more.
    assert_eq!(parse(&[&"a".repeat(9000)]), unknown(&"a".repeat(32)));
}
