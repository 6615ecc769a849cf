//! What libsuricata tells us by itself: log lines, bad rules, rule counts and counters.

use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::OnceLock;

/// As levels: `MGS_RULE_ERROR` and `MGS_RULES_ERROR`.
const RULE_ERROR: c_int = 0;
const RULES_ERROR: c_int = -1;

static SINK: OnceLock<Box<dyn Sink>> = OnceLock::new();

/// How grave a log line is (`SCLogLevel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something is doubtful.
    Warning,
    /// Of interest to every operator.
    Notice,
    /// Of interest to some.
    Info,
    /// How settings were read.
    Config,
}

/// How a set of rules loaded (`SigFileLoaderStat`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Rules taken.
    pub good: u32,
    /// Those of them that drop what they match (`drop`, `reject`).
    pub dropping: u32,
    /// Rules that do not parse.
    pub bad: u32,
    /// Rules whose `requires` is not met.
    pub skipped: u32,
    /// Files asked for.
    pub files: u32,
    /// Files that are missing or unreadable.
    pub bad_files: u32,
    /// Suricata could not make a set of them.
    pub failed: bool,
}

/// Hears what libsuricata has to say. Called on any engine thread, also while the engine holds locks: be brief, and do
/// not call back into the engine.
pub trait Sink: Send + Sync {
    /// A log line.
    fn log(&self, level: Level, message: &str);
    /// An error while rules are read. It is about the rule that [`Sink::bad_rule`] names next, or, if none comes before
    /// [`Sink::accept_rules`], about something else, such as a line of a threshold file.
    fn rule_error(&self, message: &str);
    /// An error about the set of rules that is about to be read, or is: rules do less for it than they say.
    fn rules_error(&self, message: &str);
    /// A rule that does not parse.
    fn bad_rule(&self, file: &str, line: u32, rule: &str);
    /// All rules were read: take them into use? At start, `false` ends the start with [`Failure::Exited`]; at a reload
    /// the old rules stay.
    ///
    /// [`Failure::Exited`]: crate::Failure::Exited
    fn accept_rules(&self, counts: RuleCounts) -> bool;
    /// One of Suricata's counters, told every `stats.interval` seconds.
    fn counter(&self, name: &str, value: u64);
    /// The last counter of this round was told.
    fn counters_done(&self);
}

/// Sets the sink of the process; gives it back if there is one already.
pub fn set_sink(sink: Box<dyn Sink>) -> Result<(), Box<dyn Sink>> {
    SINK.set(sink)
}

/// A panic must not cross into C.
fn with_sink<T>(default: T, call: impl FnOnce(&dyn Sink) -> T) -> T {
    match SINK.get() {
        Some(sink) => catch_unwind(AssertUnwindSafe(|| call(sink.as_ref()))).unwrap_or(default),
        None => default,
    }
}

fn level(level: c_int) -> Level {
    // SCLogLevel counts from SC_LOG_NONE = 0, SC_LOG_ERROR = 1.
    match level {
        ..=1 => Level::Error,
        2 => Level::Warning,
        3 => Level::Notice,
        4..=5 => Level::Info,
        6.. => Level::Config,
    }
}

/// # Safety
/// `text` is null or a C string that lives through the call.
unsafe fn lossy<'a>(text: *const c_char) -> std::borrow::Cow<'a, str> {
    if text.is_null() {
        return "".into();
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

#[unsafe(no_mangle)]
extern "C" fn mgs_sink_log(severity: c_int, message: *const c_char, len: usize) {
    // SAFETY: the shim passes its own buffer and the length of what is in it.
    let bytes = unsafe { slice::from_raw_parts(message.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(bytes);
    with_sink((), |sink| match severity {
        RULE_ERROR => sink.rule_error(text.trim_end()),
        RULES_ERROR => sink.rules_error(text.trim_end()),
        _ => sink.log(level(severity), text.trim_end()),
    });
}

#[unsafe(no_mangle)]
extern "C" fn mgs_sink_bad_rule(file: *const c_char, line: c_int, rule: *const c_char) {
    // SAFETY: the arguments are Suricata's log arguments: C strings that outlive the call.
    let (file, rule) = unsafe { (lossy(file), lossy(rule)) };
    with_sink((), |sink| sink.bad_rule(&file, u32::try_from(line).unwrap_or_default(), &rule));
}

#[unsafe(no_mangle)]
extern "C" fn mgs_sink_rules(
    good: c_int,
    dropping: c_int,
    bad: c_int,
    skipped: c_int,
    files: c_int,
    bad_files: c_int,
    failed: c_int,
) -> c_int {
    let count = |number: c_int| u32::try_from(number).unwrap_or_default();
    let counts = RuleCounts {
        good: count(good),
        dropping: count(dropping),
        bad: count(bad),
        skipped: count(skipped),
        files: count(files),
        bad_files: count(bad_files),
        failed: failed != 0,
    };
    if with_sink(false, |sink| sink.accept_rules(counts)) { 0 } else { 1 }
}

#[unsafe(no_mangle)]
extern "C" fn mgs_sink_counter(name: *const c_char, value: u64) {
    // SAFETY: the shim skips counters without a name; names live as long as the engine.
    let name = unsafe { lossy(name) };
    with_sink((), |sink| sink.counter(&name, value));
}

#[unsafe(no_mangle)]
extern "C" fn mgs_sink_counters_done() {
    with_sink((), |sink| sink.counters_done());
}
