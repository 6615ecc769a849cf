//! RFC 3507, its errata and draft-icap-ext-partial-content-07 as a table: what the bytes of a
//! message must be, one test a requirement, named by its section. What clients and servers must do
//! with them stands in the tables of `icap-client` and `icap-server`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use bytes::{Buf, BytesMut};
use icap::{
    BodyEvent, BodyKind, ChunkDecoder, Encapsulated, Error, ErrorKind, Headers, IsTag, Limits,
    Method, RequestHead, ResponseHead,
};

fn request(text: &str) -> Result<RequestHead, Error> {
    Ok(RequestHead::parse(&mut BytesMut::from(text), &Limits::default())?.unwrap())
}

fn response(text: &str) -> Result<ResponseHead, Error> {
    Ok(ResponseHead::parse(&mut BytesMut::from(text), &Limits::default())?.unwrap())
}

fn encapsulated(list: &str) -> Result<Encapsulated, Error> {
    Encapsulated::parse(list.as_bytes(), &Limits::default())
}

fn body(wire: &str, preview: bool) -> Result<(String, BodyEvent), Error> {
    let mut decoder = ChunkDecoder::new(preview, &Limits::default());
    let mut buf = BytesMut::from(wire);
    let mut data = String::new();
    loop {
        match decoder.next(&mut buf)?.unwrap() {
            BodyEvent::Data(len) => {
                data.push_str(std::str::from_utf8(&buf[..len]).unwrap());
                buf.advance(len);
            }
            end => return Ok((data, end)),
        }
    }
}

#[test]
fn s4_2_the_uri_is_absolute_with_an_optional_query() {
    let head =
        request("OPTIONS icap://icap.net/service?mode=translate&lang=french ICAP/1.0\r\n\r\n");
    assert_eq!(head.unwrap().path(), "/service");
    let head =
        request("OPTIONS icap://icap.example.net:2000/services/icap-service-1 ICAP/1.0\r\n\r\n");
    assert_eq!(head.unwrap().path(), "/services/icap-service-1");
    assert_eq!(request("OPTIONS icap://h ICAP/1.0\r\n\r\n").unwrap().path(), "/");
    assert_eq!(request("OPTIONS icap://h?q=/x ICAP/1.0\r\n\r\n").unwrap().path(), "/");
}

#[test]
fn s4_3_field_names_are_compared_without_case() {
    let head = request("OPTIONS * ICAP/1.0\r\nuSER-aGENT: x\r\n\r\n").unwrap();
    assert_eq!(head.headers().text("User-Agent"), Some("x"));
}

#[test]
fn s4_3_fields_may_be_folded_and_repeated() {
    let head = request("OPTIONS * ICAP/1.0\r\nX-A: 1,\r\n\t2\r\nx-a: 3\r\n\r\n").unwrap();
    assert_eq!(head.headers().list("X-A").collect::<Vec<_>>(), [b"1", b"2", b"3"]);
}

#[test]
fn s4_3_2_a_request_starts_with_method_uri_and_version() {
    let head = request(
        "RESPMOD icap://icap.example.net/translate?mode=french ICAP/1.0\r\n\
         Encapsulated: null-body=0\r\n\r\n",
    )
    .unwrap();
    assert_eq!(head.method(), Method::Respmod);
    assert_eq!(head.uri(), "icap://icap.example.net/translate?mode=french");
}

#[test]
fn s4_3_2_unknown_methods_map_to_501_and_versions_to_505() {
    assert_eq!(request("X icap://h/ ICAP/1.0\r\n\r\n").unwrap_err().status(), 501);
    assert_eq!(request("OPTIONS icap://h/ ICAP/2.0\r\n\r\n").unwrap_err().status(), 505);
}

#[test]
fn s4_3_3_a_response_starts_with_version_status_and_reason() {
    let head = response("ICAP/1.0 200 OK\r\nISTag: \"W3E4R7U9-L2E4-2\"\r\n\r\n").unwrap();
    assert_eq!((head.status(), head.reason()), (200, &b"OK"[..]));
}

#[test]
fn s4_4_bodies_are_chunked() {
    let (data, end) =
        body("33\r\nThis is data that was returned by an origin server.\r\n0\r\n\r\n", false)
            .unwrap();
    assert_eq!(data, "This is data that was returned by an origin server.");
    assert!(matches!(end, BodyEvent::End { ieof: false, use_original_body: None, .. }));
}

#[test]
fn s4_4_1_the_examples_of_the_text_parse() {
    for (list, req_hdr, res_hdr, body) in [
        ("req-hdr=0, res-hdr=45, res-body=100", Some(45), Some(55), BodyKind::Res),
        ("req-hdr=0, req-body=412", Some(412), None, BodyKind::Req),
        ("req-hdr=0, null-body=412", Some(412), None, BodyKind::Null),
        ("req-hdr=0, res-hdr=822, res-body=1655", Some(822), Some(833), BodyKind::Res),
        ("res-hdr=0, res-body=749", None, Some(749), BodyKind::Res),
        ("opt-body=0", None, None, BodyKind::Opt),
        ("null-body=0", None, None, BodyKind::Null),
    ] {
        assert_eq!(encapsulated(list).unwrap(), Encapsulated { req_hdr, res_hdr, body }, "{list}");
    }
}

#[test]
fn s4_4_1_offsets_grow_and_name_their_parts_in_order() {
    for list in ["req-hdr=9, res-body=0", "res-body=0, req-hdr=9", "req-hdr=0, res-body=0"] {
        assert_eq!(encapsulated(list).unwrap_err().kind(), ErrorKind::Encapsulated, "{list}");
    }
}

#[test]
fn s4_4_1_there_is_exactly_one_body() {
    for list in ["req-hdr=0", "req-body=0, res-body=9", "null-body=0, null-body=1"] {
        assert_eq!(encapsulated(list).unwrap_err().kind(), ErrorKind::Encapsulated, "{list}");
    }
}

#[test]
fn s4_4_1_each_method_has_its_own_parts() {
    use Method::{Options, Reqmod, Respmod};
    for (list, as_request, as_response) in [
        ("null-body=0", &[Options, Reqmod, Respmod][..], &[Options, Reqmod, Respmod][..]),
        ("opt-body=0", &[Options], &[Options]),
        ("req-hdr=0, req-body=9", &[Reqmod], &[Reqmod]),
        ("res-hdr=0, res-body=9", &[Respmod], &[Reqmod, Respmod]),
        ("res-hdr=0, null-body=9", &[Respmod], &[Reqmod, Respmod]),
        ("req-hdr=0, res-hdr=5, res-body=9", &[Respmod], &[Respmod]),
        ("req-hdr=0, res-body=9", &[Respmod], &[Respmod]),
        ("res-hdr=0, req-body=9", &[], &[]),
    ] {
        let parts = encapsulated(list).unwrap();
        for method in [Options, Reqmod, Respmod] {
            let request = parts.check_request(method).is_ok();
            let response = parts.check_response(method).is_ok();
            assert_eq!(request, as_request.contains(&method), "{method} request {list}");
            assert_eq!(response, as_response.contains(&method), "{method} response {list}");
        }
    }
}

#[test]
fn s4_4_1_encapsulated_is_part_of_every_adaptation_request() {
    for method in ["REQMOD", "RESPMOD"] {
        let error = request(&format!("{method} icap://h/s ICAP/1.0\r\n\r\n")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encapsulated);
    }
    // The text's own example of an OPTIONS request has none.
    assert!(request("OPTIONS icap://h/s ICAP/1.0\r\n\r\n").is_ok());
}

#[test]
fn s4_5_a_preview_says_how_long_it_is() {
    for (field, bytes) in [("Preview: 0", 0), ("Preview: 4096", 4096)] {
        let text =
            format!("REQMOD icap://h/s ICAP/1.0\r\n{field}\r\nEncapsulated: null-body=0\r\n\r\n");
        assert_eq!(request(&text).unwrap().preview(), Some(bytes));
    }
}

#[test]
fn s4_5_a_preview_ends_with_a_chunk_of_nothing() {
    let (data, end) = body("5\r\nhello\r\n0\r\n\r\n", true).unwrap();
    assert_eq!((data.as_str(), end), ("hello", BodyEvent::PreviewEnd));
    let (data, end) = body("0\r\n\r\n", true).unwrap();
    assert_eq!((data.as_str(), end), ("", BodyEvent::PreviewEnd));
}

#[test]
fn s4_5_ieof_ends_the_body_with_the_preview() {
    let (data, end) = body("5\r\nhello\r\n0; ieof\r\n\r\n", true).unwrap();
    assert_eq!(data, "hello");
    assert!(matches!(end, BodyEvent::End { ieof: true, .. }));
}

#[test]
fn s4_6_leave_for_204_is_asked_for_by_allow() {
    let head = |allow: &str| {
        request(&format!("REQMOD icap://h/s ICAP/1.0\r\n{allow}Encapsulated: null-body=0\r\n\r\n"))
            .unwrap()
    };
    assert!(head("Allow: 204\r\n").allows_204());
    assert!(head("Allow: 206, 204\r\n").allows_204());
    assert!(!head("").allows_204());
    assert!(!head("Allow: 206, trailers\r\n").allows_204());
    assert!(!head("Allow: 2040\r\n").allows_204());
}

#[test]
fn s4_7_an_istag_has_32_bytes_at_most() {
    assert!(IsTag::new(&"x".repeat(32)).is_ok());
    assert!(IsTag::new(&"x".repeat(33)).is_err());
}

#[test]
fn s4_10_2_several_values_are_separated_by_commas() {
    let head =
        response("ICAP/1.0 200 OK\r\nTransfer-Complete: asp, bat,exe ,, com\r\n\r\n").unwrap();
    let list: Vec<_> = head.headers().list("transfer-complete").collect();
    assert_eq!(list, [&b"asp"[..], b"bat", b"exe", b"com"]);
}

#[test]
fn s6_3_chunk_extensions_and_trailers_are_taken() {
    let (data, end) = body("1;x\r\na\r\n0;y=\"z;\"\r\nX-Sum: 1\r\n\r\n", false).unwrap();
    let BodyEvent::End { trailers, .. } = end else { panic!("{end:?}") };
    assert_eq!(data, "a");
    let trailers = Headers::parse_lines(&trailers, &Limits::default()).unwrap();
    assert_eq!(trailers.text("x-sum"), Some("1"));
}

#[test]
fn partial_content_the_last_chunk_says_where_the_original_goes_on() {
    for last in [
        "0; use-original-body=1024",
        "0;Use-Original-Body = 1024 ;x",
        "0; use-original-body=\"1024\"",
    ] {
        let (_, end) = body(&format!("{last}\r\n\r\n"), false).unwrap();
        assert!(
            matches!(end, BodyEvent::End { use_original_body: Some(1024), .. }),
            "{last}: {end:?}"
        );
    }
    let mut written = Vec::new();
    icap::encode_use_original_body(&mut written, 1024);
    assert_eq!(written, b"0; use-original-body=1024\r\n\r\n");
}
