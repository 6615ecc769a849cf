//! The forms in which a request's path may be read. Origins, and what stands before them, disagree on
//! what `//admin`, `/x/../admin`, `/..%2fadmin`, `/x\..\admin`, `/x/..;/admin` and `/admin/` are, so rules
//! are asked about all that it may be, and what lets least pass holds.

use std::borrow::Cow;

/// The forms of one path, at least one.
pub struct Forms<'a> {
    /// What most origins take it for.
    pub likely: Cow<'a, [u8]>,
    /// What others may.
    pub others: Vec<Vec<u8>>,
}

impl Forms<'_> {
    /// All of them, the likely one first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.likely).chain(self.others.iter().map(Vec::as_slice))
    }
}

/// The forms of the path of a request's `target` (in origin or absolute form), without the query.
///
/// All are percent-decoded: `/%61dmin` is `/admin` to origins, so it must be to rules.
pub fn forms(target: &[u8]) -> Forms<'_> {
    let path = path(target);
    if is_plain(path) {
        let others = without_slash(path).map(<[u8]>::to_vec).into_iter().collect();
        return Forms { likely: Cow::Borrowed(path), others };
    }
    let once = decoded(path);
    let mut all = vec![read(&once, Reading { dots: true, merged: true, ..Reading::default() })];
    let mut add = |form: Vec<u8>| {
        if !all.contains(&form) {
            all.push(form);
        }
    };
    // Some decode what was decoded before.
    for depth in [&once, &decoded(&once)] {
        for reading in Reading::all() {
            add(read(depth, reading));
        }
    }
    // Others take a path apart first, and then decode its segments.
    for reading in Reading::all() {
        add(decoded(&read(&decoded_dots(path), reading)));
    }
    for at in 0..all.len() {
        if let Some(file) = without_slash(&all[at]).map(<[u8]>::to_vec)
            && !all.contains(&file)
        {
            all.push(file);
        }
    }
    let likely = Cow::Owned(all.remove(0));
    Forms { likely, others: all }
}

/// The path of a folder as that of a file: many answer both alike.
fn without_slash(path: &[u8]) -> Option<&[u8]> {
    path.strip_suffix(b"/").filter(|file| !file.is_empty())
}

/// How a path is taken apart.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// `\` counts as `/`.
    backslashes: bool,
    /// `.` and `..` are resolved (RFC 3986 section 5.2.4).
    dots: bool,
    /// Empty segments are left out.
    merged: bool,
    /// What follows `;` in a segment is left out (RFC 3986 section 3.3).
    parameters: bool,
}

impl Reading {
    fn all() -> impl Iterator<Item = Self> {
        (0..16).map(|bits| Self {
            backslashes: bits & 1 > 0,
            dots: bits & 2 > 0,
            merged: bits & 4 > 0,
            parameters: bits & 8 > 0,
        })
    }
}

/// Whether all read it alike.
fn is_plain(path: &[u8]) -> bool {
    !path.iter().any(|b| matches!(b, b'%' | b';' | b'\\'))
        && !path.windows(2).any(|two| matches!(two, b"//" | b"/."))
}

fn read(path: &[u8], reading: Reading) -> Vec<u8> {
    let is_slash = |b: &u8| *b == b'/' || (reading.backslashes && *b == b'\\');
    let Some((_, relative)) = path.split_first().filter(|(first, _)| is_slash(first)) else {
        return path.to_vec();
    };
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = relative.split(is_slash).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let name = match reading.parameters {
            true => segment.split(|b| *b == b';').next().unwrap_or_default(),
            false => segment,
        };
        match name {
            b"." if reading.dots => {}
            b".." if reading.dots => drop(kept.pop()),
            b"" if reading.merged && !is_last => continue,
            name => {
                kept.push(name);
                continue;
            }
        }
        // A path that ends with a dot segment is that of a folder.
        if is_last {
            kept.push(b"");
        }
    }
    let mut text = Vec::with_capacity(path.len());
    for segment in kept {
        text.push(b'/');
        text.extend_from_slice(segment);
    }
    if text.is_empty() {
        text.push(b'/');
    }
    text
}

/// The path of a request's target, without the query.
fn path(target: &[u8]) -> &[u8] {
    let rest = match authority(target) {
        Some(after) => {
            let slash = target[after..].iter().position(|b| matches!(b, b'/' | b'?'));
            slash.map_or(&b"/"[..], |at| &target[after + at..])
        }
        None => target,
    };
    match rest.split(|b| *b == b'?').next() {
        None | Some(b"") => b"/",
        Some(path) => path,
    }
}

/// Where the authority of an absolute-form target begins.
fn authority(target: &[u8]) -> Option<usize> {
    if target.first() == Some(&b'/') {
        return None;
    }
    target.windows(3).position(|w| w == b"://").map(|at| at + 3)
}

fn decoded(path: &[u8]) -> Vec<u8> {
    decoded_if(path, |_| true)
}

/// Decodes dots alone, which need no escape (RFC 3986 section 6.2.2.2).
fn decoded_dots(path: &[u8]) -> Vec<u8> {
    decoded_if(path, |byte| byte == b'.')
}

fn decoded_if(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let hex = |b: u8| char::from(b).to_digit(16).map(|digit| digit as u8);
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        let byte = byte.filter(|byte| wanted(*byte));
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(target: &str) -> Vec<String> {
        forms(target.as_bytes()).iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect()
    }

    #[test]
    fn a_plain_path_has_one_form() {
        for (target, expected) in [
            ("/admin?x=/y", "/admin"),
            ("/", "/"),
            ("http://a.example/x?y", "/x"),
            ("http://a.example", "/"),
            ("http://a.example?y", "/"),
            ("*", "*"),
            ("/%61dmin", "/admin"),
            ("/a%20b", "/a b"),
            ("/a%zzb", "/a%zzb"),
        ] {
            assert_eq!(all(target), [expected], "{target}");
        }
    }

    #[test]
    fn what_origins_resolve_is_resolved() {
        for target in [
            "//admin",
            "/./admin",
            "/x/../admin",
            "/x/%2e%2e/admin",
            "/x/.%2E/admin",
            "/..%2fadmin",
            "/%2e%2e%2fadmin",
            "/x%2f..%2fadmin",
            "/../../admin",
            "/x//../admin",
            "/\\admin",
            "/x\\..\\admin",
            "/x/..%5cadmin",
            "/x/..;/admin",
            "/x/..;a=b/admin",
            "/;a/admin",
            "/%3b/admin",
            "/admin;x=y",
            "/%2561dmin",
            "/x/%252e%252e/admin",
            "/x/..%252fadmin",
            "http://a.example//admin",
            "/admin/",
            "/admin/;a",
            "/x/../admin/",
        ] {
            let all = all(target);
            assert!(all.contains(&"/admin".to_owned()), "{target}: {all:?}");
        }
    }

    #[test]
    fn what_is_written_stays_among_the_forms() {
        for (target, written) in [
            ("/public/../x", "/public/../x"),
            ("/public/..%2fx", "/public/../x"),
            ("//a", "//a"),
            ("/a;b", "/a;b"),
            ("/redirect/http://b.example/x", "/redirect/http://b.example/x"),
            ("/x/../a%2f../b", "/a/../b"),
        ] {
            let all = all(target);
            assert!(all.contains(&written.to_owned()), "{target}: {all:?}");
        }
    }

    #[test]
    fn a_folder_may_be_a_file() {
        assert_eq!(all("/a/b.c/"), ["/a/b.c/", "/a/b.c"]);
        assert_eq!(all("//a/")[0], "/a/");
    }

    #[test]
    fn the_likely_form_comes_first() {
        for (target, likely) in
            [("/x/../a", "/a"), ("//a", "/a"), ("/a/..", "/"), ("/a/.", "/a/"), ("/a;b", "/a;b")]
        {
            assert_eq!(all(target)[0], likely, "{target}");
        }
    }

    #[test]
    fn all_forms_are_few_and_bounded() {
        let target = "/%2e%252e%2f;x\\".repeat(400);
        let forms = forms(target.as_bytes());
        assert!(forms.iter().count() <= 98);
        assert!(forms.iter().all(|form| form.len() <= target.len() + 1));
    }
}
