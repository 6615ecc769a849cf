//! A rule that gives up on what it looks at has not inspected it: that is an error, never a pass.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use common::{Lab, get, sid, tuple, with_length};
use suricata::{Direction, Loss, Worker};

const RULES: &str = r#"
drop http any any -> any any (msg:"a long way"; flow:established,to_client; file.data; content:"long-"; pcre:"/long-(?:ab|ba)*END/"; sid:1;)
drop http any any -> any any (msg:"too many ways"; flow:established,to_client; file.data; content:"ways-"; pcre:"/ways-(?:(?:x+x+)+)+y/"; sid:2;)
drop http any any -> any any (msg:"two contents"; flow:established,to_client; file.data; content:"de"; content:"coy"; distance:0; within:3; sid:3;)
"#;

/// The rule that drops a response with this body; or what was lost.
fn answer(worker: &mut Worker, body: &[u8]) -> Result<Option<u32>, Option<Loss>> {
    let mut flow = worker.open(tuple(1), None).unwrap();
    let _ = worker.feed_message(&mut flow, Direction::ToServer, &[&get("/")], 0).unwrap();
    let message = with_length(body);
    let fed = worker.feed_message(&mut flow, Direction::ToClient, &[&message], body.len());
    let result = fed.map(|verdict| sid(&verdict)).map_err(|error| error.loss());
    let _ = worker.close(flow);
    result
}

#[test]
fn rules_see_through_what_is_meant_to_tire_them_or_say_that_they_did_not() {
    Lab::start(RULES, |config| config).run(|worker| {
        let with = |start: &str, middle: &str, times: usize, end: &str| {
            let text = start.to_owned() + &middle.repeat(times) + end;
            text.into_bytes()
        };
        assert_eq!(answer(worker, b"nothing"), Ok(None));
        for times in [10, 1_000, 10_000] {
            assert_eq!(
                answer(worker, &with("long-", "abba", times, "END")),
                Ok(Some(1)),
                "{times}"
            );
        }
        assert_eq!(answer(worker, &with("long-", "abba", 1_000, "E")), Ok(None));
        let tired = answer(worker, &with("ways-", "x", 20_000, "z"));
        assert_eq!(tired, Err(Some(Loss::Rule)));
        // Each copy of the first content has the rule look for the second one.
        for times in [100, 2_999, 3_000, 10_000, 32_000] {
            assert_eq!(answer(worker, &with("", "de", times, "coy")), Ok(Some(3)), "{times}");
            assert_eq!(answer(worker, &with("", "de", times, "")), Ok(None), "{times}");
        }
        assert_eq!(worker.stats().losses, 1);
    });
}
