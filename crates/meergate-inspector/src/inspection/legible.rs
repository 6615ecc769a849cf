//! What the engine would leave out of a message's fields, in silence: then the message is not inspected as its receiver
//! would read it.

use std::collections::HashMap;

use http_wire::Fields;
use icap::Headers;

use crate::inspection::framing::Contradiction;

/// libhtp joins fields of one name. Of the third and later ones of each name it counts so many, all names together, and
/// leaves out the rest (`process_request_header`, `process_response_header`).
const REPETITIONS: usize = 64;

/// Suricata cuts off the name of a file here (`SC_FILENAME_MAX`).
const FILE_NAME: usize = 4096;

/// Makes sure that the engine leaves out none of these fields: those of a head and the trailers of its message.
///
/// # Errors
/// It would.
pub(crate) fn check(fields: Fields<'_>, trailers: &Headers) -> Result<(), Contradiction> {
    let mut count = 0;
    for field in fields.clone() {
        count += 1;
        if field.value.len() > FILE_NAME && field.is("Content-Disposition") {
            return Err(Contradiction::FileName);
        }
    }
    let names =
        || fields.clone().map(|field| field.name).chain(trailers.iter().map(|(name, _)| name));
    // Most heads have fewer fields than it takes.
    if count + trailers.iter().count() <= REPETITIONS + 2 {
        return Ok(());
    }
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut repetitions = 0;
    for name in names() {
        let of_name = counts.entry(name.to_ascii_lowercase()).or_default();
        *of_name += 1;
        repetitions += usize::from(*of_name > 2);
        if repetitions > REPETITIONS {
            return Err(Contradiction::Repetitions);
        }
    }
    Ok(())
}

/// Makes sure that the engine finds a path in the target that servers read alike, which names the file that a message's content is: without a
/// name there is no file for it (`HtpResponseBodyHandle`, `HtpRequestBodyHandlePOSTorPUT`), and `file.data` sees
/// nothing. CONNECT has none, so nothing can come with it.
///
/// # Errors
/// There is no path.
pub(crate) fn check_path(
    method: &[u8],
    target: &[u8],
    has_body: bool,
) -> Result<(), Contradiction> {
    let has_path = match memchr::memmem::find(target, b"://") {
        _ if method == b"CONNECT" => !has_body,
        _ if target.starts_with(b"/") || target == b"*" => true,
        Some(scheme) => {
            let mut rest = target[scheme + 3..].iter();
            rest.find(|byte| matches!(byte, b'/' | b'?' | b'#')) == Some(&b'/')
        }
        None => false,
    };
    match has_path {
        true => check_folders(target),
        false => Err(Contradiction::PathMissing),
    }
}

/// Whether a folder's name is empty or two dots at most. Servers leave parameters out before they undo percent-encoding, or
/// after that.
fn is_dots(name: &[u8]) -> bool {
    let mut rest = name;
    for _ in 0..2 {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => break,
        };
    }
    rest.is_empty()
}

/// Makes sure that no folder of the path is but parameters (RFC 3986 section 3.3): to servers that leave those out, `/;a/x`
/// is `/x` and `/x/..;/y` is `/y`, and the engine has the path as it is written. Other parameters name nothing else.
fn check_folders(target: &[u8]) -> Result<(), Contradiction> {
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let mut segments = path.split(|byte| *byte == b'/');
    // Of the path of a root, servers write `/;jsessionid=1`.
    segments.next_back();
    let is_ambiguous = |segment: &[u8]| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        name.len() < segment.len() && is_dots(name)
    };
    match segments.any(is_ambiguous) {
        true => Err(Contradiction::PathAmbiguous),
        false => Ok(()),
    }
}

/// Makes sure that the engine takes all of the name that an upload to this target gives its file, which is the path.
///
/// # Errors
/// The path is longer than that.
pub(crate) fn check_upload(target: &[u8]) -> Result<(), Contradiction> {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match path.len() > FILE_NAME {
        true => Err(Contradiction::UploadPath),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(names: impl IntoIterator<Item = String>) -> Vec<u8> {
        names.into_iter().flat_map(|name| format!("{name}: v\r\n").into_bytes()).collect()
    }

    #[test]
    fn so_many_repetitions_are_kept() {
        let one_name =
            |count: usize| lines((0..count).map(|n| if n % 2 == 0 { "A" } else { "a" }.to_owned()));
        assert!(check(Fields::new(&one_name(66)), &Headers::new()).is_ok());
        assert!(check(Fields::new(&one_name(67)), &Headers::new()).is_err());
        let names = |count: usize, each: usize| lines((0..count).map(|n| format!("x{}", n / each)));
        assert!(check(Fields::new(&names(199, 2)), &Headers::new()).is_ok());
        assert!(check(Fields::new(&names(192, 3)), &Headers::new()).is_ok());
        assert!(check(Fields::new(&names(195, 3)), &Headers::new()).is_err());
    }

    #[test]
    fn trailers_count_with_the_head() {
        let head = lines((0..60).map(|_| "a".to_owned()));
        let mut trailers = Headers::new();
        for _ in 0..6 {
            trailers.push("A", "v").unwrap();
        }
        assert!(check(Fields::new(&head), &trailers).is_ok());
        trailers.push("A", "v").unwrap();
        assert!(check(Fields::new(&head), &trailers).is_err());
    }

    #[test]
    fn a_file_has_a_name_of_that_length_at_most() {
        let field =
            |length| format!("content-disposition: {}\r\n", "n".repeat(length)).into_bytes();
        assert!(check(Fields::new(&field(FILE_NAME)), &Headers::new()).is_ok());
        assert_eq!(
            check(Fields::new(&field(FILE_NAME + 1)), &Headers::new()),
            Err(Contradiction::FileName)
        );
    }

    #[test]
    fn a_target_has_a_path() {
        for (good, method, target, has_body) in [
            (true, "GET", "/", false),
            (true, "GET", "http://h/", true),
            (true, "GET", "http://h:1/?x", true),
            (true, "GET", "/?u=http://h", true),
            (true, "OPTIONS", "*", true),
            (true, "CONNECT", "h:443", false),
            (false, "CONNECT", "h:443", true),
            (false, "CONNECT", "http://h/x", true),
            (false, "GET", "http://h", false),
            (false, "GET", "http://h?/", false),
            (false, "GET", "http://h#/", false),
            (false, "GET", "h:443", false),
            (false, "GET", "?", false),
            (false, "GET", ":", false),
        ] {
            let found = check_path(method.as_bytes(), target.as_bytes(), has_body);
            assert_eq!(found.is_ok(), good, "{method} {target}");
        }
    }

    #[test]
    fn no_folder_is_but_parameters() {
        for (good, target) in [
            (true, "/a;b/x"),
            (true, "/;jsessionid=1"),
            (true, "/a/;b?/;/x"),
            (true, "/...;/x"),
            (true, "http://h/a;b/x"),
            (false, "/;/x"),
            (true, "/%2e%2e%2e;/x"),
            (true, "/a%2e;/x"),
            (false, "/a/%2e%2E;/x"),
            (false, "/a/.%2e;a/x"),
            (false, "/a/%2e;/x"),
            (false, "/;a=b/x"),
            (false, "/a/..;/x"),
            (false, "/a/.;b/x"),
            (false, "/a/;/x"),
            (false, "http://h/;/x"),
        ] {
            let found = check_path(b"GET", target.as_bytes(), false);
            assert_eq!(found.is_ok(), good, "{target}");
        }
    }

    #[test]
    fn an_upload_has_a_path_of_that_length_at_most() {
        let target = |path, query| format!("/{}?{}", "p".repeat(path), "q".repeat(query));
        assert!(check_upload(target(FILE_NAME - 1, 100_000).as_bytes()).is_ok());
        assert_eq!(check_upload(target(FILE_NAME, 0).as_bytes()), Err(Contradiction::UploadPath));
    }
}
