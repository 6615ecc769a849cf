//! What rules see of coded messages: the head as it was, and the content decoded.

use super::codings::{Framed, gzip, infected, response, upload};
use crate::common::{Request, Server};

const RULES: &str = r#"
alert http any any -> any any (msg:"raw head"; flow:established,to_client; http.header.raw; content:"content-Encoding: gzip|0d 0a|"; sid:1;)
alert http any any -> any any (msg:"field"; flow:established,to_client; http.header; content:"content-Encoding|3a 20|gzip|0d 0a|"; sid:2;)
alert http any any -> any any (msg:"names"; flow:established,to_client; http.header_names; content:"|0d 0a|Content-Type|0d 0a|content-Encoding|0d 0a|Content-Length|0d 0a|"; startswith; sid:3;)
alert http any any -> any any (msg:"length"; flow:established,to_client; http.content_len; content:"@LENGTH@"; bsize:@DIGITS@; sid:4;)
alert http any any -> any any (msg:"one field"; flow:established,to_client; http.response_header; content:"content-Encoding: gzip"; bsize:22; sid:5;)
alert tcp any any -> any any (msg:"stream"; flow:established,to_client; content:"|0d 0a|content-Encoding: gzip|0d 0a|Content-Length: @LENGTH@|0d 0a|"; sid:6;)
alert http any any -> any any (msg:"body"; flow:established,to_client; file.data; content:"A text in front of it"; startswith; content:"which ends here."; endswith; sid:7;)
alert http any any -> any any (msg:"size"; flow:established,to_client; filesize:512; sid:8;)
alert http any any -> any any (msg:"coded body"; flow:established,to_client; file.data; content:"|1f 8b|"; startswith; sid:9;)
alert http any any -> any any (msg:"events"; flow:established; app-layer-event:http.abnormal_ce_header; sid:10;)
alert http any any -> any any (msg:"field of a request"; flow:established,to_server; http.header; content:"content-Encoding|3a 20|gzip|0d 0a|"; sid:12;)
alert http any any -> any any (msg:"length of a request"; flow:established,to_server; http.content_len; content:"@LENGTH@"; bsize:@DIGITS@; sid:14;)
alert http any any -> any any (msg:"body of a request"; flow:established,to_server; http.request_body; content:"A text in front of it"; startswith; content:"which ends here."; endswith; sid:17;)
"#;

#[test]
fn rules_see_the_head_as_it_was_and_the_content_decoded() {
    let body = gzip(&infected());
    assert_eq!(infected().len(), 512);
    let length = body.len().to_string();
    let rules = RULES.replace("@LENGTH@", &length).replace("@DIGITS@", &length.len().to_string());
    let drop =
        "drop http any any -> any any (msg:\"x\"; http.uri; content:\"/forbidden\"; sid:99;)\n";
    let server = Server::with_rules(&(rules + drop), &[]);
    let mut client = server.connect();
    let fields = "content-Encoding: gzip\r\n";
    client.ask(&response(fields, Framed::Length, &body)).assert_passed(&body);
    client.ask(&upload(fields, Framed::Length, &body)).assert_passed(&body);
    for sid in [1, 2, 3, 4, 5, 6, 7, 8, 12, 14, 17] {
        server.wait_eve(|record| record["alert"]["signature_id"] == sid);
    }
    // What comes later in the same file proves that nothing else does.
    client
        .ask(&Request::reqmod("GET /forbidden HTTP/1.1\r\nHost: www.test\r\n\r\n"))
        .assert_blocked(99);
    server.wait_eve(|record| record["alert"]["signature_id"] == 99);
    for sid in [9, 10] {
        assert!(!server.has_eve(|record| record["alert"]["signature_id"] == sid), "{sid}");
    }
}
