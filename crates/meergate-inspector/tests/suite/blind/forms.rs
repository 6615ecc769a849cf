//! Places in forms and uploads.

use super::bodies::{Framing, filler, message};
use super::map::{Buffer, Place, answered, asked};
use crate::common::Request;

pub(super) fn places() -> Vec<Place> {
    let (body, name, data) = (asked("http.request_body"), asked("file.name"), asked("file.data"));
    let mut places = vec![
        file_names(name),
        spellings(name),
        uncovered_name(name),
        of_targets(name),
        dispositions(),
    ];
    places.extend([
        long_target(name),
        unread_names(name),
        unread_dispositions(),
        no_files(data),
        ambiguous(data),
    ]);
    for buffer in [body, data] {
        places.extend([
            parts(buffer),
            many_files(buffer),
            nested(buffer),
            boundaries(buffer),
            lines(buffer),
            plain(buffer),
            edges(buffer),
        ]);
    }
    places.extend([around(body), urlencoded(body)]);
    places
}

const DISPOSITION: &str = "Content-Disposition: form-data; name=\"n\"; filename=\"f.bin\"";

/// A part of a form: its fields and content.
fn part(fields: &str, content: &[u8]) -> Vec<u8> {
    [b"--b\r\n", fields.as_bytes(), b"\r\n\r\n", content, b"\r\n"].concat()
}

fn form(parts: &[Vec<u8>]) -> Request {
    whole_form(&[parts.concat().as_slice(), b"--b--\r\n"].concat())
}

fn whole_form(body: &[u8]) -> Request {
    message(true, Framing::Length, "multipart/form-data; boundary=b", body, 60_000)
}

/// Each part of forms of 1 to 500.
fn parts(buffer: Buffer) -> Place {
    let mut place = Place::new("each part of a form of 1 to 500", buffer);
    for (count, size) in [(1, 0), (2, 10), (10, 5_000), (100, 700), (500, 100)] {
        for n in (0..count).step_by(1 + count / 50) {
            for end in [true, false] {
                place.at(format!("{n} of {count}, {end}"), move |m| {
                    let content = |i| match (i == n, end) {
                        (false, _) => filler(size),
                        (true, true) => [filler(size).as_slice(), m.as_bytes()].concat(),
                        (true, false) => [m.as_bytes(), &filler(size)].concat(),
                    };
                    form(&(0..count).map(|i| part(DISPOSITION, &content(i))).collect::<Vec<_>>())
                });
            }
        }
    }
    place
}

/// More files in one packet than detection has buffers for, which is 1,024.
fn many_files(buffer: Buffer) -> Place {
    let mut place = Place::new("each of 1,400 small files in a form", buffer);
    for n in (0..1_400).step_by(25) {
        place.at(format!("{n}"), move |m| {
            let content = |i| if i == n { m } else { "" };
            let field = "Content-Disposition:x;filename=f";
            form(&(0..1_400).map(|i| part(field, content(i).as_bytes())).collect::<Vec<_>>())
        });
    }
    place
}

/// A file that begins, ends, or has its boundary where windows and packets end.
fn edges(buffer: Buffer) -> Place {
    let mut place = Place::new("file in a form at every border", buffer);
    let len = buffer.marker().len();
    for border in [2_560usize, 4_096, 16_384, 32_768, 40_960, 65_000, 65_536, 131_072, 1 << 20] {
        for before in [200, 100, 40, len + 1, len, len / 2, 0] {
            for tail in [0, 1, 100, 40_000] {
                let at = border - before;
                place.at(format!("{at}+{tail}"), move |m| {
                    let content = [filler(at).as_slice(), m.as_bytes(), &filler(tail)].concat();
                    form(&[part(DISPOSITION, &content)])
                });
                place.at(format!("{at}+{tail} second"), move |m| {
                    let content = [m.as_bytes(), &filler(tail)].concat();
                    form(&[part(DISPOSITION, &filler(at)), part(DISPOSITION, &content)])
                });
            }
        }
    }
    place
}

/// A form in a form.
fn nested(buffer: Buffer) -> Place {
    let mut place = Place::new("form in a form, 1 to 20 deep", buffer);
    for depth in 1..20 {
        place.at(format!("{depth}"), move |m| {
            let mut inner = m.as_bytes().to_vec();
            for level in 0..depth {
                let kind =
                    format!("{DISPOSITION}\r\nContent-Type: multipart/mixed; boundary=i{level}");
                inner = format!("--i{level}\r\n{kind}\r\n\r\n")
                    .into_bytes()
                    .into_iter()
                    .chain(inner)
                    .collect();
                inner.extend(format!("\r\n--i{level}--\r\n").bytes());
            }
            let fields =
                format!("{DISPOSITION}\r\nContent-Type: multipart/mixed; boundary=i{}", depth - 1);
            form(&[part(&fields, &inner)])
        });
    }
    place
}

/// Boundaries as RFC 2046 has them, and others that receivers take.
fn boundaries(buffer: Buffer) -> Place {
    let mut place = Place::new("file in a form, boundaries of all kinds", buffer);
    let mut boundaries: Vec<(String, String)> =
        [1, 2, 50, 69, 70, 71, 200, 255, 256, 300, 1_000, 5_000]
            .iter()
            .map(|len| (format!("boundary={}", "b".repeat(*len)), "b".repeat(*len)))
            .collect();
    for (parameter, boundary) in [
        ("boundary=\"b\"", "b"),
        ("boundary=\"b c\"", "b c"),
        ("boundary=b; charset=utf-8", "b"),
        ("charset=utf-8; boundary=b", "b"),
        ("BOUNDARY=b", "b"),
        ("boundary = b", "b"),
        ("boundary=\"a\\\"b\"", "a\"b"),
        ("boundary=a'b", "a'b"),
        ("boundary=--b", "--b"),
        ("boundary=b ", "b"),
        ("boundary=b;", "b"),
        ("x=\"boundary=y\"; boundary=b", "b"),
        ("xboundary=y; boundary=b", "b"),
        ("boundary=b; boundary=c", "c"),
        ("boundary*=utf-8''b", "b"),
        ("boundary=", ""),
    ] {
        boundaries.push((parameter.to_owned(), boundary.to_owned()));
    }
    for (parameter, boundary) in boundaries {
        for kind in
            ["multipart/form-data", "Multipart/Form-Data", "multipart/mixed", "multipart/related"]
        {
            let (parameter, boundary) = (parameter.clone(), boundary.clone());
            place.at(format!("{kind} {parameter}"), move |m| {
                let body =
                    format!("--{boundary}\r\n{DISPOSITION}\r\n\r\n{m}\r\n--{boundary}--\r\n");
                let kind = format!("{kind}; {parameter}");
                message(true, Framing::Length, &kind, body.as_bytes(), 60_000)
            });
        }
    }
    place
}

/// How the lines of a form may be written.
fn lines(buffer: Buffer) -> Place {
    let mut place = Place::new("file in a form, lines of all kinds", buffer);
    let d = DISPOSITION;
    for (n, body) in [
        format!("--b\r\n{d}\r\n\r\n{{}}"),
        format!("--b\r\n{d}\r\n\r\n{{}}\r\n"),
        format!("--b\r\n{d}\r\n\r\n{{}}\r\n--b"),
        format!("--b\r\n{d}\r\n\r\n{{}}\r\n--b-"),
        format!("--b\r\n{d}\r\n\r\n{{}}\r\n--b--"),
        format!("--b\r\n{d}\r\n\r\n{{}}--b--\r\n"),
        format!("--b\n{d}\n\n{{}}\n--b--\n"),
        format!("--b\r\n{d}\n\n{{}}\r\n--b--\r\n"),
        format!("--b \r\n{d}\r\n\r\n{{}}\r\n--b--\r\n"),
        format!("--b\t\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n"),
        format!("preamble\r\n--b\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n"),
        format!("\r\n--b\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n"),
        format!("--b\r\n{d}\r\n\r\nx\r\n--b--\r\n--b\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n"),
        format!("--b\r\n{d}\r\n\r\n--b\r\n{{}}\r\n--b--\r\n"),
        format!("--b\r\n{d}\r\n\r\n\r\n--\r\n{{}}\r\n--b--\r\n"),
        format!("--b\r\n{d}\r\n\r\n\r\n--a\r\n{{}}\r\n--b--\r\n"),
        format!("--b\r\n{d}\r\n\r\n--b{{}}\r\n--b--\r\n"),
        format!("--b\r\n{d}\r\nContent-Transfer-Encoding: binary\r\n\r\n{{}}\r\n--b--\r\n"),
        format!("--b\r\nX-Long: {}\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n", "y".repeat(5_000)),
        format!("--b\r\nX-Long: {}\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n", "y".repeat(50_000)),
        format!("--b\r\n{}{d}\r\n\r\n{{}}\r\n--b--\r\n", "X: y\r\n".repeat(500)),
        format!("--b\r\n{{}}\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n"),
        format!("--b\r\n{}: y\r\n{d}\r\n\r\n{{}}\r\n--b--\r\n", "X".repeat(3_000)),
        "--b\r\ncontent-disposition:form-data;name=n;filename=f\r\n\r\n{}\r\n--b--\r\n".to_owned(),
        "--b\r\nContent-Disposition: attachment; filename=f\r\n\r\n{}\r\n--b--\r\n".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        place.at(format!("{n}"), move |m| whole_form(body.replace("{}", m).as_bytes()));
    }
    place
}

/// Forms in which a server finds a file, and Suricata none, or another one.
fn ambiguous(buffer: Buffer) -> Place {
    let mut place = Place::new("file in a form that servers read differently", buffer);
    for fields in [
        "Content-Disposition: form-data; filename=\"\"",
        "Content-Disposition: form-data; filename*=UTF-8''f",
        "Content-Disposition: form-data; name=n\r\nContent-Type: multipart/mixed; boundary=c",
        "Content-Disposition: form-data; name=n\r\nContent-Transfer-Encoding: base64",
    ] {
        for size in [0, 5_000, 70_000] {
            place.at(format!("{fields} {size}"), move |m| {
                form(&[part(fields, &[filler(size).as_slice(), m.as_bytes()].concat())])
            });
        }
    }
    for kind in ["text/plain; boundary=b", "multipart/related; boundary=b"] {
        place.at(kind, move |m| {
            let body =
                [part("Content-Type: image/png", m.as_bytes()).as_slice(), b"--b--\r\n"].concat();
            message(true, Framing::Length, kind, &body, 60_000)
        });
    }
    for parameter in ["boundary=b,c", "boundary=b; boundary=c"] {
        place.at(parameter, move |m| {
            let body = format!("--b\r\n{DISPOSITION}\r\n\r\n{m}\r\n--b--\r\n");
            let kind = format!("multipart/form-data; {parameter}");
            message(true, Framing::Length, &kind, body.as_bytes(), 60_000)
        });
    }
    place
}

/// What is in a target beyond the length of a file's name.
fn long_target(buffer: Buffer) -> Place {
    let mut place = Place::new("file name in a PUT's target, beyond 4,096 bytes", buffer);
    for len in [4_097, 4_200, 10_000, 60_000] {
        for method in ["PUT", "POST", "PATCH"] {
            place.at(format!("{method} {len}"), move |m| {
                let target = super::heads::planted(m, len, len);
                let length = "Content-Length: 1";
                let head =
                    format!("{method} /{target} HTTP/1.1\r\nHost: a.test\r\n{length}\r\n\r\n");
                Request::reqmod(head).body(b"x")
            });
        }
    }
    place
}

/// What a form has besides files.
fn no_files(buffer: Buffer) -> Place {
    let why = "Suricata takes what has no name for no file; `http.request_body` has all";
    let mut place = Place::uncovered("part of a form without a file name", buffer, why);
    for fields in
        ["Content-Disposition: form-data; name=\"n\"", "Content-Type: image/png", "X: y", ""]
    {
        for size in [0, 5_000] {
            place.at(format!("{fields} {size}"), move |m| {
                form(&[part(fields, &[filler(size).as_slice(), m.as_bytes()].concat())])
            });
        }
    }
    place
}

/// What of a form is no file: its names, fields, and what is around the parts.
fn around(buffer: Buffer) -> Place {
    let mut place = Place::new("form: preamble, fields, names, epilogue", buffer);
    for size in [0, 3_000, 50_000] {
        for (n, body) in [
            "{}\r\n--b\r\nX: y\r\n\r\nv\r\n--b--\r\n",
            "--b\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\nv\r\n--b--\r\n",
            "--b\r\nContent-Disposition: form-data; name=\"n\"; filename=\"{}\"\r\n\r\nv\r\n--b--\r\n",
            "--b\r\nX: {}\r\n\r\nv\r\n--b--\r\n",
            "--b\r\n{}: v\r\n\r\nv\r\n--b--\r\n",
            "--b\r\nX: y\r\n\r\n{}\r\n--b--\r\n",
            "--b\r\nX: y\r\n\r\nv\r\n--b--\r\n{}",
            "--b\r\nX: y\r\n\r\nv\r\n--b--{}",
        ]
        .into_iter()
        .enumerate()
        {
            for chunk in [60_000, 1_000] {
                place.at(format!("{n} after {size} by {chunk}"), move |m| {
                    let first = part("Content-Disposition: form-data; name=\"f\"; filename=\"f\"", &filler(size));
                    let body = [first.as_slice(), body.replace("{}", m).as_bytes()].concat();
                    message(true, Framing::Length, "multipart/form-data; boundary=b", &body, chunk)
                });
            }
        }
    }
    place
}

fn named(parameter: &str) -> Request {
    let fields = format!("Content-Disposition: form-data; name=\"n\"; {parameter}");
    form(&[part(&fields, b"content")])
}

/// Names of files by length, and in each of many parts.
fn file_names(buffer: Buffer) -> Place {
    let mut place =
        Place::new("file names in forms, to 60,000 bytes, in each of 100 parts", buffer);
    for len in [40, 100, 255, 256, 500, 1_000, 2_000, 4_096, 8_000, 16_384, 32_767, 32_768, 60_000]
    {
        for at in [0, len / 2, len] {
            place.at(format!("{at} of {len}"), move |m| {
                named(&format!("filename=\"{}\"", super::heads::planted(m, len, at)))
            });
        }
    }
    for n in 0..100 {
        place.at(format!("part {n}"), move |m| {
            let name = |i| if i == n { m } else { "f" };
            let fields =
                |i| format!("Content-Disposition: form-data; name=\"n\"; filename=\"{}\"", name(i));
            form(&(0..100).map(|i| part(&fields(i), b"content")).collect::<Vec<_>>())
        });
    }
    place
}

fn spellings(buffer: Buffer) -> Place {
    let mut place = Place::new("file names in forms, as clients write them", buffer);
    for spelled in [
        "filename=\"{}\"",
        "filename={}",
        "filename='{}'",
        "filename=\"a\\\"{}\"",
        "filename=\"a;{}\"",
        "filename=\"C:\\dir\\{}\"",
        "filename=\"../{}\"",
        "filename=\"{}",
        "filename=\"\u{fc}{}\"",
        "filename=\"a%22{}\"",
        "x=\"filename=y\"; filename=\"{}\"",
        "filename=\"a\"; filename=\"{}\"",
        "filename=\"=?utf-8?q?{}?=\"",
    ] {
        place.at(spelled, move |m| named(&spelled.replace("{}", m)));
    }
    place
}

fn unread_names(buffer: Buffer) -> Place {
    let mut place = Place::new("file names in forms, written otherwise", buffer);
    for spelled in [
        "FILENAME=\"{}\"",
        "filename = \"{}\"",
        "filename*=UTF-8''{}",
        "filename=\"x\"; filename*=UTF-8''{}",
        "filename*=UTF-8''{}; filename=\"x\"",
        "filename=\"{}\"; filename=\"a\"",
    ] {
        place.at(spelled, move |m| named(&spelled.replace("{}", m)));
    }
    place
}

/// The name of a form's field is not that of a file.
fn uncovered_name(buffer: Buffer) -> Place {
    let why = "it is no file's name";
    let mut place = Place::uncovered("name of a field in a form", buffer, why);
    for n in 0..10 {
        place.at(format!("{n}"), move |m| {
            form(&[part(&format!("Content-Disposition: form-data; name=\"{m}{n}\""), b"v")])
        });
    }
    place
}

/// A file that is uploaded as it is has its name from the target.
fn of_targets(buffer: Buffer) -> Place {
    let mut place = Place::new("file name in a PUT's target", buffer);
    for target in ["/{}", "/a/{}", "/a/b/{}?c=d", "http://a.test/{}", "/%7e{}", "/a/../{}"] {
        for size in [1, 10_000] {
            place.at(format!("{target} {size}"), move |m| {
                let head = format!(
                    "PUT {} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n",
                    target.replace("{}", m)
                );
                Request::reqmod(head).body(&filler(size))
            });
        }
    }
    place
}

fn disposition(value: &str) -> Request {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Disposition: {value}\r\nContent-Length: 2\r\n\r\n");
    Request::respmod("GET /f HTTP/1.1\r\nHost: a.test\r\n\r\n", head).body(b"hi")
}

/// The name that a response gives its file.
fn dispositions() -> Place {
    let mut place =
        Place::new("file name in `Content-Disposition`, to 60,000 bytes", answered("file.name"));
    for spelled in [
        "attachment; filename=\"{}\"",
        "attachment; filename={}",
        "ATTACHMENT; FILENAME={}",
        "inline; filename=\"{}\"",
        "attachment;filename=\"{}\"",
        "attachment; filename=\"a\\\"{}\"",
        "filename=\"{}\"",
        "attachment; x=y; filename=\"{}\"",
        "attachment; filename=\"a;{}\"",
    ] {
        place.at(spelled, move |m| disposition(&spelled.replace("{}", m)));
    }
    for len in [40, 255, 256, 1_000, 4_000, 4_096, 5_000, 16_384, 32_767, 32_768, 60_000] {
        for at in [0, len / 2, len] {
            place.at(format!("{at} of {len}"), move |m| {
                disposition(&format!(
                    "attachment; filename=\"{}\"",
                    super::heads::planted(m, len, at)
                ))
            });
        }
    }
    place
}

fn unread_dispositions() -> Place {
    let why = "Suricata reads `filename=`; `http.header` has them all";
    let what = "file name in `Content-Disposition`, written otherwise";
    let mut place = Place::uncovered(what, answered("file.name"), why);
    for spelled in [
        "attachment; filename = \"{}\"",
        "attachment; filename*=UTF-8''{}",
        "attachment; filename=\"x\"; filename*=UTF-8''{}",
    ] {
        place.at(spelled, move |m| disposition(&spelled.replace("{}", m)));
    }
    place
}

/// An upload without a form.
fn upload(method: &str, framing: Framing, body: &[u8]) -> Request {
    let field = match framing {
        Framing::Length => format!("Content-Length: {}", body.len()),
        _ => "Transfer-Encoding: chunked".to_owned(),
    };
    Request::reqmod(format!("{method} /u HTTP/1.1\r\nHost: a.test\r\n{field}\r\n\r\n")).body(body)
}

fn uploads(mut place: Place, methods: &[&'static str]) -> Place {
    for &method in methods {
        for (at, tail) in [(0, 0), (3_000, 0), (3_000, 3_000), (50_000, 3)] {
            for framing in [Framing::Length, Framing::Chunked] {
                place.at(format!("{method} {at}+{tail} {framing:?}"), move |m| {
                    let body = [filler(at).as_slice(), m.as_bytes(), &filler(tail)].concat();
                    upload(method, framing, &body)
                });
            }
        }
    }
    place
}

fn plain(buffer: Buffer) -> Place {
    let methods = ["POST", "PUT", "PATCH", "DELETE", "GET", "REPORT", "PROPFIND", "QUERY", "X"];
    uploads(Place::new("upload as it is, by method", buffer), &methods)
}

/// Each value, or name, of an urlencoded form.
fn urlencoded(buffer: Buffer) -> Place {
    let mut place = Place::new("urlencoded form, each of 2,000 names and values", buffer);
    for n in (0..2_000).step_by(20) {
        for name in [true, false] {
            place.at(format!("{n} {name}"), move |m| {
                let each = (0..2_000).map(|i| match (i == n, name) {
                    (false, _) => format!("n{i}=v&"),
                    (true, true) => format!("{m}=v&"),
                    (true, false) => format!("n{i}={m}&"),
                });
                let body = each.collect::<String>();
                message(
                    true,
                    Framing::Length,
                    "application/x-www-form-urlencoded",
                    body.as_bytes(),
                    60_000,
                )
            });
        }
    }
    place
}
