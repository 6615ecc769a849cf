//! What a map is made of: places of messages, positions in them, and what became of the marker there.

use std::fmt::Write as _;

use crate::common::Request;

/// A buffer of Suricata's, as its manual names it, and the rule that looks for a marker in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    /// The keyword; `content` alone stands for the bytes of the stream.
    pub(super) keyword: &'static str,
    /// Whether it is the client's bytes that are looked at.
    pub(super) by_client: bool,
}

/// Of requests.
pub(super) const fn asked(keyword: &'static str) -> Buffer {
    Buffer { keyword, by_client: true }
}

/// Of responses.
pub(super) const fn answered(keyword: &'static str) -> Buffer {
    Buffer { keyword, by_client: false }
}

impl Buffer {
    /// What the rule of this buffer looks for, and no other one does. Lower case and a token, so that it may stand
    /// anywhere; as a status, a number.
    pub(super) fn marker(self) -> String {
        if self.keyword == "http.stat_code" {
            return "798".to_owned();
        }
        let letters = self.keyword.bytes().filter(u8::is_ascii_lowercase).map(char::from);
        let side = if self.by_client { "asked" } else { "answered" };
        format!("zq{}{side}qz", letters.collect::<String>())
    }

    /// The rule with this number.
    pub(super) fn rule(self, sid: usize) -> String {
        let Self { keyword, by_client } = self;
        let direction = if by_client { "to_server" } else { "to_client" };
        let (protocol, sticky) = match keyword {
            "content" => ("tcp", String::new()),
            _ => ("http", format!(" {keyword};")),
        };
        format!(
            "drop {protocol} any any -> any any (msg:\"{keyword}\"; flow:established,{direction};{sticky} \
             content:\"{}\"; sid:{sid};)\n",
            self.marker()
        )
    }
}

/// Makes the transactions of a position, the last of which holds the marker.
type Make = Box<dyn Fn(&str) -> Vec<Request> + Send + Sync>;

/// One place for the marker.
pub(super) struct Position {
    /// What tells it from others in its place.
    pub(super) label: String,
    /// Its transactions.
    pub(super) make: Make,
}

/// A kind of place in messages.
pub(super) struct Place {
    /// In words.
    pub(super) what: String,
    /// Where Suricata is to find it.
    pub(super) buffer: Buffer,
    /// Why it cannot, if the buffer does not cover this. So this test shows that it can tell.
    pub(super) uncovered: Option<&'static str>,
    /// All of its positions.
    pub(super) positions: Vec<Position>,
}

impl Place {
    pub(super) fn new(what: impl Into<String>, buffer: Buffer) -> Self {
        Self { what: what.into(), buffer, uncovered: None, positions: Vec::new() }
    }

    /// One that the buffer does not cover.
    pub(super) fn uncovered(what: impl Into<String>, buffer: Buffer, why: &'static str) -> Self {
        Self { uncovered: Some(why), ..Self::new(what, buffer) }
    }

    /// With a position of one transaction.
    pub(super) fn at(
        &mut self,
        label: impl Into<String>,
        make: impl Fn(&str) -> Request + Send + Sync + 'static,
    ) {
        self.after(label, move |marker| vec![make(marker)]);
    }

    /// With a position of several transactions.
    pub(super) fn after(
        &mut self,
        label: impl Into<String>,
        make: impl Fn(&str) -> Vec<Request> + Send + Sync + 'static,
    ) {
        self.positions.push(Position { label: label.into(), make: Box::new(make) });
    }
}

/// What became of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The rule saw it.
    Blocked,
    /// It passed, and bytes were counted as uninspected.
    Counted,
    /// It passed.
    Passed,
    /// The transaction failed.
    Refused,
}

/// How many positions of a place ended in which way.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) blocked: usize,
    pub(super) counted: usize,
    pub(super) passed: usize,
    pub(super) refused: usize,
}

impl Score {
    pub(super) fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Blocked => &mut self.blocked,
            Outcome::Counted => &mut self.counted,
            Outcome::Passed => &mut self.passed,
            Outcome::Refused => &mut self.refused,
        } += 1;
    }

    fn all(self) -> usize {
        self.blocked + self.counted + self.passed + self.refused
    }

    fn sum(self, other: Self) -> Self {
        Self {
            blocked: self.blocked + other.blocked,
            counted: self.counted + other.counted,
            passed: self.passed + other.passed,
            refused: self.refused + other.refused,
        }
    }
}

/// A line of the table: one place, for all buffers that it was looked for in.
struct Line<'a> {
    by_client: bool,
    what: &'a str,
    uncovered: Option<&'static str>,
    keywords: Vec<&'static str>,
    score: Score,
}

/// The table for the docs, in the order of the places.
pub(super) fn table(places: &[(&Place, Score)]) -> String {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (place, score) in places {
        let (by_client, uncovered) = (place.buffer.by_client, place.uncovered);
        let same = |line: &&mut Line<'_>| {
            (line.by_client, line.what, line.uncovered)
                == (by_client, place.what.as_str(), uncovered)
        };
        match lines.iter_mut().find(same) {
            Some(line) => {
                line.score = line.score.sum(*score);
                if !line.keywords.contains(&place.buffer.keyword) {
                    line.keywords.push(place.buffer.keyword);
                }
            }
            None => lines.push(Line {
                by_client,
                what: &place.what,
                uncovered,
                keywords: vec![place.buffer.keyword],
                score: *score,
            }),
        }
    }
    let mut out =
        "| of | place | looked for with | positions | blocked | refused | counted | passed |\n\
                   |---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut row = |side: &str, what: &str, keywords: &str, score: Score, note: &str| {
        let Score { blocked, counted, passed, refused } = score;
        let all = score.all();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {side} | {what} | {keywords} | {all} | {blocked} | {refused} | {counted} | {passed}{note} |"
        );
    };
    for line in &lines {
        let side = if line.by_client { "requests" } else { "responses" };
        let keywords =
            line.keywords.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
        let note = line.uncovered.map(|why| format!(": {why}")).unwrap_or_default();
        row(side, line.what, &keywords, line.score, &note);
    }
    let covered = places.iter().filter(|(place, _)| place.uncovered.is_none());
    let sum = covered.fold(Score::default(), |sum, (_, score)| sum.sum(*score));
    row("both", "all that a buffer covers", "", sum, "");
    out
}
