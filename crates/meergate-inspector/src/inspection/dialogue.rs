//! Requests and responses in turn on one flow.

/// The request that a flow last carried, as far as later messages are compared with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Its method.
    pub(crate) method: Box<[u8]>,
    /// Path and query of its target.
    pub(crate) path: Box<[u8]>,
}

impl Asked {
    /// From a request line.
    pub(crate) fn new(method: &[u8], target: &[u8]) -> Self {
        Self { method: method.into(), path: path(target).into() }
    }

    fn is(&self, method: &[u8], target: &[u8]) -> bool {
        *self.method == *method && *self.path == *path(target)
    }
}

/// The path of a target: a proxy may see `http://host/path` where its server sees `/path`.
fn path(target: &[u8]) -> &[u8] {
    let Some(scheme) = target.windows(3).position(|w| w == b"://") else { return target };
    if target[..scheme].contains(&b'/') {
        return target;
    }
    let rest = &target[scheme + 3..];
    match rest.iter().position(|&b| b == b'/' || b == b'?') {
        Some(at) if rest[at] == b'/' => &rest[at..],
        _ => b"/",
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Side {
    #[default]
    Waiting,
    Running,
    Done,
}

/// What a response finds on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The request it answers has been seen: go on with the response.
    Answer,
    /// Nobody asked yet: the request head, if the response brings it, goes first.
    AskFirst,
    /// The flow is in the midst of something else.
    Busy,
}

/// Whose turn it is on a flow. HTTP/1.1 alternates; a response may start while its request still
/// runs, but nothing else may overlap.
#[derive(Debug, Default)]
pub(crate) struct Dialogue {
    asked: Option<Asked>,
    request: Side,
    response: Side,
    /// Nothing may follow the current exchange.
    last: bool,
}

impl Dialogue {
    /// Whether a request may start. If not, the flow is at its end for good.
    pub(crate) fn may_ask(&self) -> bool {
        !self.last && self.request == Side::Waiting && self.response == Side::Waiting
    }

    /// A request starts.
    pub(crate) fn ask(&mut self, asked: Asked) {
        self.asked = Some(asked);
        self.request = Side::Running;
    }

    /// The request is complete.
    pub(crate) fn asked(&mut self) {
        self.request = Side::Done;
        self.turn_over();
    }

    /// A response comes whose request nobody has seen; nothing may follow it.
    pub(crate) fn unasked(&mut self) {
        self.request = Side::Done;
        self.last = true;
    }

    /// What a response would find here; `request` is method and target of the request that it
    /// says it answers.
    pub(crate) fn turn(&self, request: Option<(&[u8], &[u8])>) -> Turn {
        let same = match (&self.asked, request) {
            (Some(asked), Some((method, target))) => asked.is(method, target),
            _ => true,
        };
        match (self.request, self.response) {
            (Side::Waiting, Side::Waiting) if !self.last => Turn::AskFirst,
            (Side::Running | Side::Done, Side::Waiting) if same => Turn::Answer,
            _ => Turn::Busy,
        }
    }

    /// The method of the request in hand.
    pub(crate) fn method(&self) -> Option<&[u8]> {
        self.asked.as_ref().map(|asked| &*asked.method)
    }

    /// A response starts. If its request still runs, nothing may follow: what is left of that may be
    /// content, or the engine (libhtp, after some errors) may read it as another request.
    pub(crate) fn answer(&mut self) {
        self.response = Side::Running;
        self.last |= self.request == Side::Running;
    }

    /// The response is complete.
    pub(crate) fn answered(&mut self) {
        self.response = Side::Done;
        self.turn_over();
    }

    /// Nothing may follow the current exchange: one side said so, or its end is the flow's end.
    pub(crate) fn close_after(&mut self) {
        self.last = true;
    }

    /// The current exchange is complete and nothing may follow it.
    pub(crate) fn is_over(&self) -> bool {
        self.last
            && self.request != Side::Running
            && self.response != Side::Running
            && (self.request == Side::Waiting) == (self.response == Side::Waiting)
    }

    fn turn_over(&mut self) {
        if (self.request, self.response) == (Side::Done, Side::Done) {
            self.asked = None;
            (self.request, self.response) = (Side::Waiting, Side::Waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Asked {
        Asked::new(b"GET", target.as_bytes())
    }

    #[test]
    fn exchanges_alternate() {
        let mut d = Dialogue::default();
        for _ in 0..3 {
            assert!(d.may_ask());
            assert_eq!(d.turn(None), Turn::AskFirst);
            d.ask(get("/a"));
            assert!(!d.may_ask());
            d.asked();
            assert!(!d.may_ask(), "the response is missing");
            assert_eq!(d.turn(Some((b"GET", b"http://h.test/a"))), Turn::Answer);
            assert_eq!(d.method(), Some(&b"GET"[..]));
            d.answer();
            assert_eq!(d.turn(None), Turn::Busy);
            d.answered();
            assert!(!d.is_over());
        }
    }

    #[test]
    fn a_response_that_overtakes_the_end_of_its_request_is_the_last() {
        let mut d = Dialogue::default();
        d.ask(get("/upload"));
        assert_eq!(d.turn(None), Turn::Answer);
        d.answer();
        d.answered();
        assert!(!d.is_over());
        d.asked();
        assert!(d.is_over() && !d.may_ask());
    }

    #[test]
    fn an_answer_to_another_question_is_not_taken() {
        let mut d = Dialogue::default();
        d.ask(get("/a"));
        d.asked();
        assert_eq!(d.turn(Some((b"GET", b"/b"))), Turn::Busy);
        assert_eq!(d.turn(Some((b"HEAD", b"/a"))), Turn::Busy);
    }

    #[test]
    fn the_last_exchange_ends_the_flow() {
        let mut d = Dialogue::default();
        d.ask(get("/a"));
        d.close_after();
        d.asked();
        assert!(!d.is_over());
        assert_eq!(d.turn(None), Turn::Answer);
        d.answer();
        assert!(!d.is_over());
        d.answered();
        assert!(d.is_over());
        assert!(!d.may_ask());
    }

    #[test]
    fn paths_of_targets() {
        for (target, expected) in [
            ("/a?b=http://c/d", "/a?b=http://c/d"),
            ("http://h", "/"),
            ("http://h:80/x/y", "/x/y"),
            ("https://h?x", "/"),
            ("*", "*"),
            ("h.test:443", "h.test:443"),
        ] {
            assert_eq!(path(target.as_bytes()), expected.as_bytes(), "{target}");
        }
    }
}
