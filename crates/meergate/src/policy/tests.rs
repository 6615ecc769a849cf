//! The rules, asked about all that they may look at.

use super::*;

fn policy(text: &str) -> Result<Policy, StartError> {
    Policy::new(&Config::from_toml(text, "m.toml")?)
}

fn subject(host: &str) -> Subject<'_> {
    Subject {
        client: "10.1.2.3".parse().unwrap(),
        user: None,
        host,
        address: None,
        port: 443,
        spoken: Spoken::UNKNOWN,
        certificate: None,
        request: None,
        content_type: None,
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(
        "[[rule]]\nname = \"banks\"\nhost = [\"*.bank.example\"]\naction = \"bypass\"\n\
         [[rule]]\nhost = [\"evil.bank.example\", \"evil.example\"]\naction = \"block\"\n\
         [[rule]]\nclient = [\"10.0.0.0/8\"]\nport = [8443]\naction = \"reset\"\n",
    )
    .unwrap();
    let decide = |subject: &Subject<'_>| {
        let decision = policy.decide(subject);
        (decision.rule.as_deref().map(str::to_owned), decision.action)
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(decide(&subject("bank.example")), (named("banks"), Action::Bypass));
    assert_eq!(decide(&subject("evil.bank.example")), (named("banks"), Action::Bypass));
    assert_eq!(decide(&subject("evil.example")), (named("rule 2"), Action::Block));
    assert_eq!(decide(&subject("other.example")), (None, Action::Intercept));
    let odd = Subject { port: 8443, ..subject("other.example") };
    assert_eq!(decide(&odd), (named("rule 3"), Action::Reset));
    let foreign = Subject { client: "192.0.2.1".parse().unwrap(), ..odd };
    assert_eq!(decide(&foreign), (None, Action::Intercept));
    assert_eq!(
        policy.explain(&odd),
        [("banks".into(), Some("host")), ("rule 2".into(), Some("host")), ("rule 3".into(), None)]
    );
}

#[test]
fn rules_about_requests_wait_for_the_request() {
    let policy = policy(
        "[[rule]]\nhost = [\"a.example\"]\nmethod = [\"POST\"]\npath = [\"/up*\"]\naction = \"block\"\n",
    )
    .unwrap();
    let connection = subject("a.example");
    assert_eq!(policy.decide(&connection).action, Action::Intercept);
    let with = |method, path| Subject { request: Some(Request { method, path }), ..connection };
    assert_eq!(policy.decide(&with(b"POST", b"/upload")).action, Action::Block);
    assert_eq!(policy.decide(&with(b"GET", b"/upload")).action, Action::Intercept);
    assert_eq!(policy.decide(&with(b"POST", b"/other")).action, Action::Intercept);
}

#[test]
fn unknown_facts_match_no_condition_on_them() {
    let policy = policy(
        "[[rule]]\nuser = [\"alice\"]\naction = \"bypass\"\n\
         [[rule]]\naddress = [\"192.0.2.0/24\"]\naction = \"block\"\n",
    )
    .unwrap();
    assert_eq!(policy.decide(&subject("a.example")).action, Action::Intercept);
    let known = Subject { user: Some("alice"), ..subject("a.example") };
    assert_eq!(policy.decide(&known).action, Action::Bypass);
    let known = Subject { address: "192.0.2.9".parse().ok(), ..subject("a.example") };
    assert_eq!(policy.decide(&known).action, Action::Block);
}

#[test]
fn rules_choose_chains() {
    let policy = policy(
        "[[icap.service]]\nname = \"one\"\nurl = \"icap://127.0.0.1:1344/a\"\n\
         [[icap.service]]\nname = \"two\"\nurl = \"icap://127.0.0.1:1344/b\"\n\
         [[icap.chain]]\nname = \"short\"\nservices = [\"two\"]\n\
         [[rule]]\nhost = [\"a.example\"]\nchain = \"short\"\n",
    )
    .unwrap();
    let services = |host| {
        let chain = policy.decide(&subject(host)).chain.clone().unwrap();
        chain.services().map(|s| s.name().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(services("a.example"), ["two"]);
    assert_eq!(services("b.example"), ["one", "two"]);
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "# nothing\n").unwrap();
    for (text, says) in [
        ("host = [\"a b\"]".to_owned(), "neither name nor address"),
        ("chain = \"none\"".to_owned(), "no [[icap.chain]]"),
        (format!("host_file = [{empty:?}]"), "hold no name"),
        ("client = [\"10.0.0.0/40\"]".to_owned(), "an address or a network"),
        ("hosts = []".to_owned(), "unknown field"),
        ("action = \"decrypt\"".to_owned(), "unknown variant"),
    ] {
        let e = policy(&format!("[[rule]]\n{text}\n")).unwrap_err().to_string();
        assert!(e.contains(says), "{text}: {e}");
    }
}

#[test]
fn rules_about_responses_wait_for_the_response() {
    let policy = policy(
        "[[rule]]\ncontent_type = [\"image/*\", \"Text/CSS\"]\naction = \"bypass\"\n\
         [[rule]]\nhost = [\"a.example\"]\naction = \"block\"\n",
    )
    .unwrap();
    assert!(policy.looks_at_responses() && !policy.looks_at_certificates());
    let of = |kind: &'static str| Subject {
        content_type: Some(kind.as_bytes()),
        ..subject("b.example")
    };
    assert_eq!(policy.decide(&subject("b.example")).action, Action::Intercept);
    assert_eq!(policy.decide(&of("image/png")).action, Action::Bypass);
    assert_eq!(policy.decide(&of(" text/css ;charset=utf-8")).action, Action::Bypass);
    assert_eq!(policy.decide(&of("text/html; x=image/png")).action, Action::Intercept);
    assert_eq!(policy.decide(&of("")).action, Action::Intercept);
    assert_eq!(policy.decide(&subject("a.example")).action, Action::Block);
}

#[test]
fn wrong_fingerprints_are_refused() {
    let right = "AB:".repeat(31) + "cd";
    let of = |text: &str| policy(&format!("[[rule]]\ncertificate_fingerprint = [\"{text}\"]\n"));
    assert!(of(&right).unwrap().looks_at_certificates());
    for wrong in ["", "ab", &right[3..], &right.replace('A', "g")] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn of_all_that_a_path_may_be_the_strictest_counts() {
    let policy = policy(
        "[[rule]]\npath = [\"/admin*\"]\naction = \"block\"\n\
         [[rule]]\npath = [\"/secret/page\"]\naction = \"block\"\n\
         [[rule]]\npath = [\"/public/*\"]\naction = \"bypass\"\n\
         [[rule]]\npath = [\"/cut/*\"]\naction = \"reset\"\n",
    )
    .unwrap();
    let decide = |target: &str| {
        let paths = path_forms(target.as_bytes());
        decide_paths(&policy, &subject("a.example"), b"GET", &paths).action
    };
    for target in ["/admin", "//admin", "/./admin", "/x/..%2fadmin", "/public/../admin", "/;/admin"]
    {
        assert_eq!(decide(target), Action::Block, "{target}");
    }
    for target in
        ["/secret/page", "/secret/page/", "/secret/page/?x", "/secret/./page/", "/secret/page;/"]
    {
        assert_eq!(decide(target), Action::Block, "{target}");
    }
    for target in ["/cut/x", "/admin/../cut/x", "/public/..;/cut/x", "/public\\..\\cut\\x"] {
        assert_eq!(decide(target), Action::Reset, "{target}");
    }
    for target in ["/public/x", "/public/a%20b", "/public/a;b", "/public/x?/../y", "/public//x"] {
        assert_eq!(decide(target), Action::Bypass, "{target}");
    }
    for target in [
        "/x",
        "/public/../x",
        "/public/..%2fx",
        "/public/%2e%2e/x",
        "/public/..;/x",
        "/public/..%5cx",
        "/public/%252e%252e/x",
        "/x/../public/x",
        "//public/x",
        "/./public/x",
        "/public/",
        "/secret/page/x",
    ] {
        assert_eq!(decide(target), Action::Intercept, "{target}");
    }
}

#[test]
fn of_several_addresses_the_strictest_counts() {
    let policy = policy(
        "[[rule]]\naddress = [\"10.0.0.0/8\"]\naction = \"block\"\n\
         [[rule]]\naddress = [\"192.0.2.0/24\"]\naction = \"bypass\"\n",
    )
    .unwrap();
    let decide = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let about = |address| policy.decide(&Subject { address, ..subject("a.example") });
        strictest(&addresses, about).action
    };
    assert_eq!(decide(&[]), Action::Intercept);
    assert_eq!(decide(&["192.0.2.1", "::ffff:192.0.2.2"]), Action::Bypass);
    assert_eq!(decide(&["192.0.2.1", "198.51.100.1"]), Action::Intercept);
    assert_eq!(decide(&["192.0.2.1", "10.0.0.1"]), Action::Block);
    assert_eq!(decide(&["64:ff9b::10.0.0.1"]), Action::Block);
    assert_eq!(decide(&["64:ff9b::192.0.2.1"]), Action::Intercept, "it may be either");
}
