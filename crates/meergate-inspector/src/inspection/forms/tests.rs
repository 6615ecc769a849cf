//! Forms cut in every way.

use bytes::Bytes;
use http_wire::Limits;

use super::*;

fn head(method: &str, kind: &str) -> RequestHead {
    let head = format!("{method} / HTTP/1.1\r\nHost: a.test\r\n{kind}\r\n");
    RequestHead::from_bytes(Bytes::from(head), &Limits::default()).unwrap()
}

fn of(kind: &str) -> Result<Option<Form>, Refusal> {
    Form::of(&head("POST", &format!("Content-Type: {kind}\r\n")), Policy::Block)
}

/// What comes of a form's bytes, however they are cut.
fn read_as(kind: &str, body: &str, policy: Policy) -> Result<u64, Refusal> {
    let mut results = [1, 2, 7, body.len().max(1)].map(|size| {
        let head = head("POST", &format!("Content-Type: {kind}\r\n"));
        let mut form = Form::of(&head, policy).unwrap().unwrap();
        let mut missed = 0;
        for piece in body.as_bytes().chunks(size) {
            missed += form.read(piece)?;
        }
        Ok(missed + form.finish())
    });
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    std::mem::replace(&mut results[0], Ok(0))
}

fn read(body: &str) -> Result<u64, Refusal> {
    read_as("multipart/form-data; boundary=b", body, Policy::Block)
}

const FILE: &str = "Content-Disposition: form-data; name=\"n\"; filename=\"f\"";

fn part(fields: &str) -> String {
    format!("--b\r\n{fields}\r\n\r\nsome\r\ncontent\r\n--b--\r\n")
}

#[test]
fn forms_as_clients_send_them_are_fine() {
    for body in [
        part(FILE),
        part("content-disposition:form-data;name=n;filename=f"),
        part(&format!("{FILE}\r\nContent-Type: image/png\r\nContent-Length: 13")),
        part(&format!("{FILE}\r\nContent-Type: multipart/mixed; boundary=c")),
        part(&format!("{FILE}\r\nContent-Transfer-Encoding: BINARY")),
        part("Content-Disposition: form-data; name=\"n\""),
        part("Content-Disposition: form-data; name=\"filename\"; filename=\"\u{c5}; b.txt\""),
        format!("--b\r\n{FILE}\r\n\r\n\r\n--b\r\n{FILE}\r\n\r\nx\r\n--b--"),
        format!("--b \r\n{FILE}\r\n\r\nlines\nof\rall\n\rkinds\n--\n--c\r\n--\r\n--b--\n"),
        "--b\r\nContent-Disposition: form-data; name=\"n\"; filename=\"\"\r\n\r\n\r\n--b--\r\n"
            .to_owned(),
        String::new(),
        "--b--\r\n".to_owned(),
    ] {
        assert_eq!(read(&body), Ok(0), "{body}");
    }
}

#[test]
fn what_servers_differ_about_is_refused_or_counted() {
    let long = format!("X: {}", "y".repeat(LONGEST_LINE));
    for (body, ambiguity) in [
        (format!("--b\n{FILE}\n\nx\n--b--\n"), Ambiguity::Line),
        (format!("--b\r\n{FILE}\n\r\nx\r\n--b--\r\n"), Ambiguity::Line),
        (format!("--b\r\n{FILE}\r\n\nx\r\n--b--\r\n"), Ambiguity::Line),
        (format!("--b\r\n{FILE}\r\n\r\nx\n--b\r\n{FILE}\r\n\r\ny\r\n--b--\r\n"), Ambiguity::Line),
        (format!("preamble\n--b\r\n{FILE}\r\n\r\nx\r\n--b--\r\n"), Ambiguity::Line),
        (part("Content-Disposition: form-data;\r\n filename=f"), Ambiguity::Line),
        (part("Content-Disposition : form-data; filename=f"), Ambiguity::Line),
        (part("X: y\rContent-Disposition: form-data; filename=f"), Ambiguity::Line),
        (part("Content-Disposition: form-data; filename=\"a\0b\""), Ambiguity::Line),
        (part("no field"), Ambiguity::Field),
        (part(&format!("{FILE}\r\n{FILE}")), Ambiguity::Field),
        (part(&long), Ambiguity::Long),
        (part("Content-Disposition: form-data; FILENAME=f"), Ambiguity::Name),
        (part("Content-Disposition: form-data; filename =f"), Ambiguity::Name),
        (part("Content-Disposition: form-data; filename=f; filename=g"), Ambiguity::Name),
        (part("Content-Disposition: form-data; filename*0=f"), Ambiguity::Name),
        (part("Content-Disposition: form-data; x; filename=f"), Ambiguity::Name),
        (format!("--b\r\n{FILE}\r\n\r\n--b\r\nx\r\n--b--\r\n"), Ambiguity::Delimiter),
        (format!("--b\r\n{FILE}\r\n\r\nx\r\n--bc\r\n--b--\r\n"), Ambiguity::Delimiter),
        // As Werkzeug, Django, Python and multiparty read on.
        (format!("pre--b\r\n{FILE}\r\n\r\nx\r\n--b--\r\n"), Ambiguity::Delimiter),
        (format!("----b\r\n{FILE}\r\n\r\nx\r\n--b--\r\n"), Ambiguity::Delimiter),
        (format!(" --b\r\n{FILE}\r\n\r\nx\r\n--b--\r\n"), Ambiguity::Delimiter),
        (format!("{}\r--b\r\n{FILE}\r\n\r\nx\r\n--b--\r\n", part("A: b")), Ambiguity::Delimiter),
        (
            format!("--b\r\nA: b\r\n\r\nhello--b\r\n{FILE}\r\n\r\nx\r\n--b--\r\n"),
            Ambiguity::Delimiter,
        ),
        (
            format!("--b\r\nA: b\r\n\r\nhello\r--b\r\n{FILE}\r\n\r\nx\r\n--b--\r\n"),
            Ambiguity::Delimiter,
        ),
        (part("Content-Disposition\x0b: form-data; filename=f"), Ambiguity::Line),
        (part("X: y\x0cContent-Disposition: form-data; filename=f"), Ambiguity::Line),
        (part("X: y\u{85}Content-Disposition: form-data; filename=f"), Ambiguity::Line),
        (part("X: y\u{2028}Content-Disposition: form-data; filename=f"), Ambiguity::Line),
        (part("Content-Disposition-X: form-data; filename=f"), Ambiguity::Field),
        (part("Content-Disposition: form-data; name=\"a; filename=f\""), Ambiguity::Name),
        (part("Content-Disposition: form-data; name=a; y=\"; FileName =f\""), Ambiguity::Name),
    ] {
        assert_eq!(read(&body), Err(Refusal::Form(ambiguity)), "{body}");
        let counted = read_as("multipart/form-data; boundary=b", &body, Policy::Pass);
        assert!(counted.is_ok(), "{body}");
    }
    let counted = |body: &str| {
        let head = head("POST", "Content-Type: multipart/form-data; boundary=b\r\n");
        Form::of(&head, Policy::Pass).unwrap().unwrap().read(body.as_bytes())
    };
    assert_eq!(counted("--b\nthe rest"), Ok(12));
    let mut form = Form::of(
        &head("POST", "Content-Type: multipart/form-data; boundary=b,c\r\n"),
        Policy::Pass,
    )
    .unwrap()
    .unwrap();
    assert_eq!(form.read(b"everything"), Ok(10));
}

#[test]
fn files_that_the_engine_does_not_take_for_some_are_counted() {
    let content = "some\r\ncontent".len() as u64;
    for (fields, missed) in [
        ("Content-Disposition: form-data; filename=\"\"", content),
        ("Content-Disposition: form-data; filename*=UTF-8''f", content + 8),
        ("Content-Disposition: form-data; filename=f; filename*=UTF-8''f", 8),
        (
            "Content-Disposition: form-data; name=n\r\nContent-Type: multipart/mixed; boundary=c",
            content,
        ),
        ("Content-Encoding: gzip", content),
        ("Content-Encoding: identity", 0),
        ("Content-Transfer-Encoding: base64", content),
        ("Content-Type: text/plain; charset=utf-16", content),
        ("Content-Disposition: form-data; filename=f\r\nContent-Type: a/b; Charset=utf-7", content),
        ("Content-Disposition: form-data; name=n\r\nContent-Type: a/b; charset=utf-8", 0),
        (
            "Content-Disposition: form-data; filename=f\r\nContent-Transfer-Encoding: quoted-printable",
            content,
        ),
    ] {
        assert_eq!(read(&part(fields)), Ok(missed), "{fields}");
    }
    let related = "multipart/related; boundary=b";
    assert_eq!(read_as(related, &part("Content-Type: image/png"), Policy::Block), Ok(content));
    assert_eq!(read_as(related, &part(FILE), Policy::Block), Ok(0));
    // Of what is no form nothing is refused.
    for kind in ["text/plain; boundary=b", "multipart/mixed; boundary=b,c"] {
        assert_eq!(read_as(kind, "--b\r\nbody", Policy::Block), Ok(9), "{kind}");
    }
    assert_eq!(read_as(related, "data: one\n\n", Policy::Block), Ok(11));
    // Without an end, the end of the body is content as well.
    let body = "--b\r\nContent-Disposition: form-data; filename=\"\"\r\n\r\nabc\r\nde\r";
    assert_eq!(read(body), Ok(8));
}

#[test]
fn text_that_is_not_written_as_in_ascii_is_counted() {
    let of = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let end = "--b--\r\n";
    let field = of("a", "1");
    for (charset, other) in [
        (of("_charset_", "UTF-8"), false),
        (of("_charset_", ""), false),
        (of("charset", "utf-16"), false),
        (of("_charset_", "utf-16"), true),
        (of("_CHARSET_", "utf-7"), true),
        (of("_charset_", "\r\nutf-16"), true),
    ] {
        for end in [end, "--b--", ""] {
            for form in [format!("{charset}{field}{end}"), format!("{field}{charset}{end}")] {
                let expected = if other { form.len() as u64 } else { 0 };
                assert_eq!(read(&form), Ok(expected), "{form}");
            }
        }
    }
    let mut form =
        Form::of(&head("POST", "Content-Type: multipart/form-data; boundary=b\r\n"), Policy::Block)
            .unwrap()
            .unwrap();
    let begin = of("a", "");
    assert_eq!(form.read(begin.trim_ascii_end().as_bytes()), Ok(0));
    assert_eq!(form.read(b"\r\n\r\n"), Ok(0));
    let text = b"\xff\xfex\0\r\n--b--\r\n";
    assert_eq!(form.read(text), Ok(4));
}

#[test]
fn where_the_engine_has_no_boundary_it_takes_the_body_for_one_file() {
    let long = format!("multipart/form-data; boundary={}", "b".repeat(LONGEST_BOUNDARY + 1));
    for kind in [
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; charset=utf-8",
        "multipart/form-data; Boundary=b",
        &long,
    ] {
        assert!(matches!(of(kind), Ok(None)), "{kind}");
    }
    let put = head("PUT", "Content-Type: multipart/form-data; boundary=b\r\n");
    assert!(matches!(Form::of(&put, Policy::Block), Ok(None)));
}

#[test]
fn boundaries_that_servers_differ_about_are_refused() {
    for kind in [
        "multipart/form-data; boundary=b; boundary=c",
        "multipart/form-data; boundary=b; Boundary=c",
        "multipart/form-data; boundary*=utf-8''b",
        "multipart/form-data; boundary*0=b",
        "multipart/form-data; boundary=b,c",
        "multipart/form-data; boundary=b c",
        "multipart/form-data; boundary =b",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"b",
        "multipart/form-data; boundary=<b>",
        "multipart/form-data; boundary=\"b \"",
        "multipart/form-data; boundary=\"a; b\"",
        "multipart/form-data; boundary=\"a\\\"b\"",
        "multipart/form-data; x; boundary=b",
        "multipart/form-data; boundary=b\r\nContent-Type: text/plain",
    ] {
        assert!(matches!(of(kind), Err(Refusal::Form(Ambiguity::Boundary))), "{kind}");
    }
    for kind in [
        "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "multipart/form-data; boundary=\"----=_Part_0_1 x\"",
        "multipart/form-data; boundary=*****",
        "multipart/form-data; charset=utf-8; boundary=b",
        "multipart/form-data;boundary=b;",
    ] {
        assert!(matches!(of(kind), Ok(Some(_))), "{kind}");
    }
}
