//! Rules that can be read, and can't do what they say: conditions that nothing ever meets, and rules that are never
//! reached.

use crate::config::{Config, Rule};
use start_error::StartError;

/// Methods as they are written (RFC 9110 section 9, RFC 5789): case is told apart.
const METHODS: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// All that is found, in the order of the rules.
pub(super) fn of(config: &Config) -> Vec<StartError> {
    let mut found = Vec::new();
    let mut for_all: Option<String> = None;
    for (at, rule) in config.rule.iter().enumerate() {
        let name = rule.name.clone().unwrap_or_else(|| format!("rule {}", at + 1));
        let mut tell = |what: String, advice: &str| {
            found.push(StartError::new(what, format!("[[rule]] {name:?}"), advice));
        };
        if let Some(first) = &for_all {
            let what = format!("it is never reached: {first:?} before it has no conditions");
            tell(what, "put it before that one");
        }
        if for_all.is_none() && rule.has_no_condition() {
            for_all = Some(name.clone());
        }
        if !rule.user.is_empty() && config.users.file.is_none() {
            let what = "it has users, and nobody is asked for a name".to_owned();
            tell(what, "set users.file, or leave `user` out");
        }
        for method in &rule.method {
            let written = method.to_ascii_uppercase();
            if written != *method && METHODS.contains(&written.as_str()) {
                tell(
                    format!("no request has the method {method:?}"),
                    &format!("write {written:?}"),
                );
            }
        }
        for path in &rule.path {
            if let Some(advice) = path_advice(path) {
                tell(format!("no path is like {path:?}"), advice);
            }
        }
        for kind in &rule.content_type {
            if kind.contains(';') || !kind.is_empty() && !kind.contains(['/', '*']) {
                let what = format!("no response has the content type {kind:?}");
                tell(what, "write it without parameters, such as \"text/html\" or \"image/*\"");
            }
        }
        if rule.port.contains(&0) {
            tell("no connection leads to port 0".into(), "name ports from 1 to 65535");
        }
    }
    found
}

/// What to do about a pattern for paths that none is like; nothing if some may be.
fn path_advice(pattern: &str) -> Option<&'static str> {
    let is_encoded = |at: usize| {
        let digits = pattern.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !pattern.starts_with(['/', '*']) {
        return Some("begin it with / or *, such as \"/admin*\"");
    }
    if pattern.contains(['?', '#']) {
        return Some("leave the query out: it is no part of the path");
    }
    let encoded = pattern.match_indices('%').any(|(at, _)| is_encoded(at));
    encoded.then_some("write it decoded: paths of requests are decoded first")
}

impl Rule {
    /// Whether everything meets it.
    fn has_no_condition(&self) -> bool {
        self.is_for_all()
            && self.client.is_empty()
            && self.host.is_empty()
            && self.host_file.is_empty()
            && self.address.is_empty()
            && self.path.is_empty()
            && self.content_type.is_empty()
            && self.certificate_issuer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let config = Config::from_toml(text, "m.toml").unwrap();
        of(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_nothing_meets_is_told_with_a_remedy() {
        for (rule, words) in [
            (
                "method = [\"get\"]",
                "no request has the method \"get\": [[rule]] \"rule 1\": write \"GET\"",
            ),
            ("path = [\"admin/*\"]", "begin it with /"),
            ("path = [\"/a?b=c\"]", "leave the query out"),
            ("path = [\"/%61dmin\"]", "write it decoded"),
            ("content_type = [\"pdf\"]", "such as \"text/html\""),
            ("content_type = [\"text/html; charset=utf-8\"]", "without parameters"),
            ("user = [\"anna\"]", "set users.file"),
            ("port = [0]", "1 to 65535"),
        ] {
            let found = told(&format!("[[rule]]\n{rule}\n"));
            assert!(found.len() == 1 && found[0].contains(words), "{rule}: {found:?}");
        }
        for rule in [
            "method = [\"GET\", \"purge\"]",
            "path = [\"/admin*\", \"*.php\", \"/100%\"]",
            "content_type = [\"\", \"*\", \"image/*\"]",
        ] {
            assert!(told(&format!("[[rule]]\n{rule}\n")).is_empty(), "{rule}");
        }
    }

    #[test]
    fn rules_behind_one_for_all_are_told_in_order() {
        let rules = "[[rule]]\nhost = [\"a.test\"]\n[[rule]]\nall = true\n[[rule]]\nhost = [\"b.test\"]\n\
                     [[rule]]\nmethod = [\"post\"]\n";
        let found = told(rules);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("\"rule 2\" before it has no conditions: [[rule]] \"rule 3\""));
        assert!(found[2].contains("write \"POST\""), "{found:?}");
        assert!(told("[[rule]]\naddress = [\"0.0.0.0/0\"]\n[[rule]]\nport = [1]\n").is_empty());
    }
}
