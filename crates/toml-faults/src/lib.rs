//! TOML read into a type, with all that is wrong told at once.
//!
//! A deserializer stops at the first fault. So what it complains of is taken out, and the rest is given to it again.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

/// Faults that are told at most.
const MOST: usize = 100;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it begins: the line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What it is, on one line.
    pub what: String,
}

/// `line:column: what`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for Fault {}

/// Reads `text`.
///
/// # Errors
/// What is wrong with it, in the order of the text; at least one fault, and 100 at most. Where the syntax is wrong what
/// follows can't be told, so that it is the last one.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken =
        errors.iter().map(|error| (start(error), error.message())).min_by_key(|(at, _)| *at);
    // What is on the line of broken syntax, or behind it, may not be what it was to be.
    let end = broken.map_or(text.len(), |(at, _)| text[..at].rfind('\n').map_or(0, |end| end + 1));
    let (span, mut table) = (table.span(), table.into_inner());
    let mut found = Vec::new();
    // Tables that something was taken out of: what they lack now may be just that.
    let mut lacking = Vec::new();
    while found.len() < MOST {
        let error =
            match T::deserialize(Deserializer::from(Spanned::new(span.clone(), table.clone()))) {
                Ok(read) if broken.is_none() && found.is_empty() => return Ok(read),
                Ok(_) => break,
                Err(error) => error,
            };
        let Some(named) = error.span() else {
            // Without a place, it is all of it.
            found.push((0, error.message().to_owned()));
            break;
        };
        let at = element::<T>(&table, &span, &error).unwrap_or(named);
        if !lacking.contains(&at) {
            found.push((at.start, error.message().to_owned()));
        }
        let before = count(&table);
        table = without(table, &at, &span, &mut lacking);
        if count(&table) == before {
            break;
        }
    }
    found.retain(|(at, _)| *at < end);
    found.extend(broken.map(|(at, what)| (at, what.to_owned())));
    found.sort();
    Err(found.into_iter().map(|(at, what)| fault(text, at, &what)).collect())
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// Which element of an array an error is about that is said of the array: the last one of the shortest array of which
/// it is said.
fn element<T: DeserializeOwned>(
    table: &DeTable<'_>,
    span: &Range<usize>,
    error: &Error,
) -> Option<Range<usize>> {
    let at = error.span()?;
    let places = elements(table, &at)?;
    places.iter().enumerate().find_map(|(number, place)| {
        let shorter = shortened(table.clone(), &at, number + 1);
        let read = T::deserialize(Deserializer::from(Spanned::new(span.clone(), shorter)));
        let same =
            |other: &Error| other.span() == error.span() && other.message() == error.message();
        read.err().filter(same).map(|_| place.clone())
    })
}

/// The places of what is in the array at `at`.
fn elements(table: &DeTable<'_>, at: &Range<usize>) -> Option<Vec<Range<usize>>> {
    table.values().find_map(|value| match value.get_ref() {
        DeValue::Array(array) if value.span() == *at => {
            Some(array.iter().map(Spanned::span).collect())
        }
        DeValue::Array(array) => array.iter().find_map(|value| match value.get_ref() {
            DeValue::Table(table) => elements(table, at),
            _ => None,
        }),
        DeValue::Table(table) => elements(table, at),
        _ => None,
    })
}

/// The same, with no more than `most` in the array at `at`.
fn shortened<'i>(table: DeTable<'i>, at: &Range<usize>, most: usize) -> DeTable<'i> {
    table.into_iter().map(|(key, value)| (key, value_shortened(value, at, most))).collect()
}

fn value_shortened<'i>(
    value: Spanned<DeValue<'i>>,
    at: &Range<usize>,
    most: usize,
) -> Spanned<DeValue<'i>> {
    let place = value.span();
    let changed = match value.into_inner() {
        DeValue::Array(array) if place == *at => {
            DeValue::Array(array.into_iter().take(most).collect())
        }
        DeValue::Array(array) => {
            let each = array.into_iter().map(|value| value_shortened(value, at, most));
            DeValue::Array(each.collect())
        }
        DeValue::Table(table) => DeValue::Table(shortened(table, at, most)),
        other => other,
    };
    Spanned::new(place, changed)
}

fn fault(text: &str, at: usize, what: &str) -> Fault {
    let before = text.get(..at).unwrap_or(text);
    let line_at = before.rfind('\n').map_or(0, |end| end + 1);
    Fault {
        line: before.matches('\n').count() + 1,
        column: before[line_at..].chars().count() + 1,
        what: what.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// The table, which is at `place`, without the smallest thing that has all of `at` in it.
fn without<'i>(
    table: DeTable<'i>,
    at: &Range<usize>,
    place: &Range<usize>,
    lacking: &mut Vec<Range<usize>>,
) -> DeTable<'i> {
    let before = table.len();
    let left: DeTable<'i> = table
        .into_iter()
        .filter(|(key, _)| !holds(&key.span(), at))
        .filter_map(|(key, value)| Some((key, value_without(value, at, lacking)?)))
        .collect();
    if left.len() < before {
        lacking.push(place.clone());
    }
    left
}

fn value_without<'i>(
    value: Spanned<DeValue<'i>>,
    at: &Range<usize>,
    lacking: &mut Vec<Range<usize>>,
) -> Option<Spanned<DeValue<'i>>> {
    if !reaches(&value, at) {
        return Some(value);
    }
    let place = value.span();
    let left = match value.into_inner() {
        DeValue::Table(table) if in_table(&table, at) => {
            DeValue::Table(without(table, at, &place, lacking))
        }
        DeValue::Array(array) if array.iter().any(|value| reaches(value, at)) => {
            let left = array.into_iter().filter_map(|value| value_without(value, at, lacking));
            DeValue::Array(left.collect())
        }
        _ => return None,
    };
    Some(Spanned::new(place, left))
}

/// Whether all of `at` is in the value, or in something of it: tables with a header of their own are elsewhere.
fn reaches(value: &Spanned<DeValue<'_>>, at: &Range<usize>) -> bool {
    holds(&value.span(), at)
        || match value.get_ref() {
            DeValue::Array(array) => array.iter().any(|value| reaches(value, at)),
            DeValue::Table(table) => in_table(table, at),
            _ => false,
        }
}

fn in_table(table: &DeTable<'_>, at: &Range<usize>) -> bool {
    table.iter().any(|(key, value)| holds(&key.span(), at) || reaches(value, at))
}

fn holds(place: &Range<usize>, at: &Range<usize>) -> bool {
    place.start <= at.start && at.end <= place.end
}

/// Keys and values, however deep.
fn count(table: &DeTable<'_>) -> usize {
    fn of(value: &DeValue<'_>) -> usize {
        match value {
            DeValue::Array(array) => array.iter().map(|value| 1 + of(value.get_ref())).sum(),
            DeValue::Table(table) => count(table),
            _ => 0,
        }
    }
    table.values().map(|value| 1 + of(value.get_ref())).sum()
}

/// The README's example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        listen: Vec<Listen>,
        limits: Limits,
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "Keys")]
    struct Listen(#[allow(dead_code)] u16);

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keys {
        port: u16,
        kind: Option<String>,
    }

    impl TryFrom<Keys> for Listen {
        type Error = String;

        fn try_from(keys: Keys) -> Result<Self, String> {
            match keys.kind.as_deref() {
                None | Some("good") => Ok(Self(keys.port)),
                Some(_) => Err("no such\nkind".into()),
            }
        }
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        connections: u32,
        ports: Vec<u16>,
    }

    fn told(text: &str) -> Vec<String> {
        match read::<Settings>(text) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(Fault::to_string).collect(),
        }
    }

    #[test]
    fn every_fault_is_told_in_the_order_of_the_text() {
        let text = "nonsense = 1\n[limits]\nconnections = \"many\"\nports = [1, 70000,\n  \"a\", 3]\nconections = 3\n\
                    [[listen]]\nprt = 1\n[[listen]]\nport = 1\nkind = \"good\"\n[[listen]]\nkind = \"good\"\n\
                    [[listen]]\nport = 1\nkind = \"bad\"\n[more]\nx = 1\n";
        let places: Vec<String> =
            told(text).iter().map(|told| told.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(places, ["1:1", "3:15", "4:13", "5:3", "6:1", "8:1", "12:1", "14:1", "17:2"]);
        assert!(told(text)[7].ends_with("no such kind"));
        assert!(told("[limits]\nconnections = 3\n[[listen]]\nport = 1\n").is_empty());
    }

    #[test]
    fn what_a_wrong_value_leaves_is_not_missed() {
        assert_eq!(told("[[listen]]\nport = \"x\"\n").len(), 1);
        assert_eq!(told("listen = [{ port = 1 }, { port = \"x\" }, { prt = 1 }]\n").len(), 2);
        assert_eq!(told("listen = 1\nlimits = 2\n").len(), 2);
    }

    #[test]
    fn on_and_behind_lines_of_wrong_syntax_nothing_else_is_told() {
        let found = told("nonsense = 1\n[limits\nconnections = \"x\"\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].starts_with("2:"), "{found:?}");
        assert_eq!(told("a = = 1\nb = = 2\n").len(), 1);
        assert_eq!(told("\u{e4} = 1").len(), 1);
    }

    #[test]
    fn there_is_an_end() {
        let text = (0..1000).map(|n| format!("a{n} = 1\n")).collect::<String>();
        assert_eq!(told(&text).len(), MOST);
    }
}
