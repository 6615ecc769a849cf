//! What mails are made of: ordinary ones go on and all of them is seen, others are not let go on unseen.

use super::{Lab, RULES, before_data, client, server, why, with_data};
use std::fs;

/// What stands in the mails at the places that must be seen, and what is put there.
const TOKENS: [(&str, &str); 2] = [("CLEANONE.", "EVILMARK."), ("Q0xFQU5PTkUu", "RVZJTE1BUksu")];

/// Ordinary mails of clients, servers and lists, as they go to a server.
fn mails() -> Vec<(String, String)> {
    let folder = e2e::programs::root().join("crates/e2e/tests/hidden/mails");
    let files = fs::read_dir(folder).expect("mails");
    let mut mails: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("a mail");
            (path.file_stem().expect("a name").display().to_string(), text.replace('\n', "\r\n"))
        })
        .collect();
    mails.sort();
    mails
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_mails_go_on_and_all_of_them_is_seen() {
    let lab = Lab::start(RULES, "");
    let mails = mails();
    assert!(mails.len() >= 18);
    for (name, mail) in &mails {
        for cut in [usize::MAX, 100] {
            let bytes = format!("{mail}.\r\n").into_bytes();
            let pieces = bytes.chunks(cut).map(client).collect();
            let after = vec![server("250 taken\r\n"), client("QUIT\r\n"), server("221 bye\r\n")];
            let (dropped, passed) = lab.talk(2525, &[with_data(), pieces, after].concat()).await;
            assert_eq!(why(dropped.as_ref()), "", "{name}: {passed} passed");
        }
        let mut seen = 0;
        for (token, bad) in TOKENS {
            for (at, _) in mail.match_indices(token) {
                let bad = [&mail[..at], bad, &mail[at + token.len()..], ".\r\n"].concat();
                let (dropped, _) =
                    lab.talk(2525, &[with_data(), vec![client(&bad)]].concat()).await;
                let line = bad[..at].matches('\n').count() + 1;
                assert_eq!(why(dropped.as_ref()), "20", "{name}, line {line}");
                seen += 1;
            }
        }
        assert!(seen > 0, "{name}");
    }
    assert_eq!(lab.metric("refused_total{reason=\"stream\"}"), 0);
}

/// The head of a mail.
const HEAD: &str = "From: a@b\r\nTo: c@d\r\nSubject: x\r\nMIME-Version: 1.0\r\n";
/// The mark in base64, and in quoted-printable as some write it.
const BASE64: &str = "Q0xFQU5PTkUuRVZJTE1BUksu";
const QUOTED: &str = "clean=2c EV=49LM=\r\nARK=2e";

fn single(fields: &str, body: &str) -> String {
    format!("{HEAD}{fields}\r\n{body}\r\n")
}

fn parts(content_type: &str, part: &str) -> String {
    let text = "--QQ\r\nContent-Type: text/plain\r\n\r\nhi\r\n";
    format!("{HEAD}{content_type}\r\n{text}--QQ\r\n{part}\r\n--QQ--\r\n")
}

fn multipart(part: &str) -> String {
    parts("Content-Type: multipart/mixed; boundary=QQ\r\n", part)
}

/// A file whose coding is given so.
fn coded(coding: &str) -> String {
    multipart(&format!("Content-Type: application/pdf; name=a.pdf\r\n{coding}\r\n\r\n{BASE64}"))
}

/// What clients read alike, so that it is seen.
fn seen() -> Vec<(&'static str, String)> {
    let base64 = "Content-Transfer-Encoding: base64\r\n";
    let quoted = "Content-Transfer-Encoding: quoted-printable\r\n";
    let html = "Content-Type: text/html\r\n";
    vec![
        ("digits in small letters", single(quoted, QUOTED)),
        ("the same in a part", multipart(&format!("{html}{quoted}\r\n{QUOTED}"))),
        (
            "the same in a file",
            multipart(&format!("Content-Type: a/b; name=c\r\n{quoted}\r\n{QUOTED}")),
        ),
        ("a soft break with a blank", single(quoted, "EVIL= \t\r\nMARK")),
        ("no digits behind it", single(quoted, "a=b EV=49LMARK =")),
        ("a dot before", single(quoted, "=\r\n.EVILMARK")),
        ("a text", single("Content-Type: text/plain\r\n", "EVILMARK")),
        ("a text in base64", single(base64, BASE64)),
        ("html in base64", single(&format!("{html}{base64}"), BASE64)),
        ("no type", multipart("X-A: b\r\n\r\nEVILMARK")),
        ("no field", multipart("\r\nEVILMARK")),
        ("no head", "EVILMARK is\r\nall: of it\r\n".into()),
        ("no head but an empty line", "\r\nEVILMARK\r\n".into()),
        ("half a head", "Subject: x\r\nEVILMARK is\r\n\r\nall of it\r\n".into()),
        ("on a line of its own", coded("Content-Transfer-Encoding:\r\n   base64")),
        ("a comment behind", coded("Content-Transfer-Encoding: base64(x)")),
        (
            "digits split",
            coded("Content-Transfer-Encoding: base64").replace("RVZJ", "RV\r\n\r\n Z J"),
        ),
        ("no padding", multipart(&format!("Content-Type: a/b\r\n{base64}\r\nRVZJTE1BUks"))),
        ("a type on a line of its own", {
            let inner = single(base64, BASE64);
            multipart(&format!("Content-Type:\r\n  Message/RFC822\r\n\r\n{inner}"))
        }),
        ("in a digest", {
            let inner = single(base64, BASE64);
            parts("Content-Type: multipart/digest; boundary=QQ\r\n", &format!("\r\n{inner}"))
        }),
        ("an inner end is missing", {
            let inner = "Content-Type: multipart/mixed; boundary=ZZ\r\n\r\n--ZZ\r\n\r\nhi\r\n";
            multipart(&format!("{inner}--QQ\r\n{base64}\r\n{BASE64}"))
        }),
        ("no line between ends", {
            let inner =
                "Content-Type: multipart/mixed; boundary=ZZ\r\n\r\n--ZZ\r\n\r\nhi\r\n--ZZ--";
            let middle = format!(
                "Content-Type: multipart/mixed; boundary=YY\r\n\r\n--YY\r\n{inner}\r\n--YY--"
            );
            multipart(&format!("{middle}\r\n--QQ\r\n\r\nx\r\n--QQ\r\n{base64}\r\n{BASE64}"))
        }),
        ("a head that does not end", multipart(&format!("X: y\r\n--QQ\r\n{base64}\r\n{BASE64}"))),
        ("no end at all", {
            let mail = multipart(&format!("{base64}\r\n{BASE64}"));
            mail.replace("\r\n--QQ--", "")
        }),
    ]
}

/// What they may read in different ways, so that it is refused.
fn refused() -> Vec<(&'static str, String)> {
    let typed = |content_type: &str| {
        parts(content_type, &format!("Content-Transfer-Encoding: base64\r\n\r\n{BASE64}"))
    };
    let base64 =
        |body: &str| multipart(&format!("Content-Transfer-Encoding: base64\r\n\r\n{body}"));
    let good = "Content-Type: multipart/mixed; boundary=QQ\r\n";
    let mut mails: Vec<(&'static str, String)> = [
        "Content-Transfer-Encoding: (x) base64",
        "Content-Transfer-Encoding: \"base64\"",
        "Content-Transfer-Encoding: base64.",
        "Content-Transfer-Encoding: x-base64",
        "Content-Transfer-Encoding: base64, 7bit",
        "Content-Transfer-Encoding: x-uuencode",
        "Content-Transfer-Encoding : base64",
        "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64",
        "X: y\rContent-Transfer-Encoding: base64",
        "X\r\nContent-Transfer-Encoding: base64",
        "Content-Transfer-Encoding: base64\r",
        "Content-Transfer-Encoding: base64\0",
        ".Content-Transfer-Encoding: base64",
        "\r\r\nContent-Transfer-Encoding: base64",
    ]
    .map(|coding| (coding, coded(coding)))
    .into();
    mails.extend(
        [
            "Content-Type: multipart/mixed; boundary*=us-ascii''QQ\r\n",
            "Content-Type: multipart/mixed; boundary*0=Q; boundary*1=Q\r\n",
            "Content-Type: multipart/mixed; boundary = \"QQ\"\r\n",
            "Content-Type: multipart/mixed; boundary=QQ; boundary=XX\r\n",
            "Content-Type: multipart/mixed; boundary=\"Q\\Q\"\r\n",
            "Content-Type: multipart/mixed (c); (x) boundary=QQ\r\n",
            "Content-Type: (c) multipart/mixed; boundary=QQ\r\n",
            "Content-Type: multipart/mixed; boundary=\"Q\r\n Q\"\r\n",
            "Content-Type: multipart/mixed; x; boundary=QQ\r\n",
            "Content-Type: multipart/mixed\r\n",
            "Content-Type: text/plain; boundary=QQ\r\n",
            "Content-Type : multipart/mixed; boundary=QQ\r\n",
            "Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=QQ\r\n",
        ]
        .map(|content_type| (content_type, typed(content_type))),
    );
    mails.extend([
        ("digits behind padding", base64("QUI=RVZJTE1BUksu")),
        ("padding too early", base64("Q===RVZJTE1BUksu")),
        ("what is no digit", base64("RVZJ!TE1BUksu")),
        ("a dot before digits", base64(".RVZJTE1BUksu")),
        ("cut short", typed(good).replace("\r\n--QQ--", "").replace("BUksu", "BUks")),
        ("a longer boundary", typed(good).replace("--QQ\r\nContent-Tr", "--QQx\r\nContent-Tr")),
        (
            "a dot before a boundary",
            typed(good).replace("--QQ\r\nContent-Tr", ".--QQ\r\nContent-Tr"),
        ),
        ("a CR before a boundary", typed(good).replace("hi\r\n--QQ\r\n", "hi\r--QQ\r\n")),
        ("fields behind an empty line", format!("\r\n{}", typed(good))),
        ("a boundary that another begins with", {
            let outer = "Content-Type: multipart/mixed; boundary=QQx\r\n\r\n--QQx\r\n";
            let inner = typed(good).replace(HEAD, "").replace(BASE64, "QUJD").replace("--QQ--", "");
            format!("{HEAD}{outer}{inner}--QQx--\r\n")
        }),
        ("the same boundary within", {
            let inner = typed(good).replace(HEAD, "");
            format!("{HEAD}{good}\r\n--QQ\r\n{inner}--QQ--\r\n")
        }),
        ("uuencode", single("", "begin 644 a.exe\r\n(159)3$U!4DL\r\n`\r\nend")),
        (
            "a mail in a coding",
            multipart(&format!(
                "Content-Type: message/x\r\nContent-Transfer-Encoding: base64\r\n\r\n{BASE64}"
            )),
        ),
        (
            "a part of a mail",
            single("Content-Type: message/partial; id=x; number=1; total=2\r\n", "x"),
        ),
        ("a field behind the end", typed(good).replace(BASE64, "QUJD") + good),
        ("too deep", {
            let parts = (0..65).map(|n| {
                format!("Content-Type: multipart/mixed; boundary=a{n}z\r\n\r\n--a{n}z\r\n")
            });
            format!("{HEAD}{}\r\nx\r\n", parts.collect::<String>())
        }),
    ]);
    mails
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_read_is_seen_or_refused() {
    let lab = Lab::start(RULES, "");
    for (mails, expected) in [(seen(), "20"), (refused(), "a mail")] {
        for (name, mail) in mails {
            for cut in [usize::MAX, 7] {
                let bytes = format!("{mail}.\r\n").into_bytes();
                let pieces: Vec<_> = bytes.chunks(cut).map(client).collect();
                let (dropped, _) = lab.talk(2525, &[with_data(), pieces].concat()).await;
                let why = why(dropped.as_ref());
                assert!(why.contains(expected), "{name}: {why:?}\n{mail}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_may_read_differently_goes_on_and_is_counted_where_it_may() {
    let lab = Lab::start(RULES, "[content]\nmail = \"pass\"\n");
    let counted = || lab.metric("uninspected_bytes_total{reason=\"mail\"}");
    let before = counted();
    for (name, mail) in refused().into_iter().take(1) {
        let mail = format!("{mail}.\r\n");
        let (dropped, _) = lab.talk(2525, &[with_data(), vec![client(&mail)]].concat()).await;
        assert_eq!(why(dropped.as_ref()), "", "{name}");
        assert_eq!(counted() - before, mail.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_for_delivery_is_seen_as_other_mail() {
    let lab = Lab::start(RULES, "");
    let mail = super::mail;
    for (bad, expected) in [(false, ""), (true, "20")] {
        for hello in ["LHLO x\r\n", "lhlo x\r\n"] {
            let mut steps = before_data();
            steps[0] = server("220 mx LMTP\r\n");
            steps[1] = client(hello);
            // Two recipients, each of which is answered for.
            steps.extend([
                client(super::TO),
                server("250 ok\r\n"),
                client("DATA\r\n"),
                server("354 go\r\n"),
            ]);
            steps.extend([client(mail(false)), server("250 ok\r\n"), server("450 not now\r\n")]);
            steps.extend([
                client(super::FROM),
                server("250 ok\r\n"),
                client(super::TO),
                server("250 ok\r\n"),
            ]);
            steps.extend([client("DATA\r\n"), server("354 go\r\n"), client(mail(bad))]);
            let (dropped, passed) = lab.talk(2424, &steps).await;
            assert_eq!(why(dropped.as_ref()), expected, "{hello}: {passed} passed");
        }
    }
}
