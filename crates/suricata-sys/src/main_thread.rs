//! The engine's main thread: starting, running and stopping it, in stages.

use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, ptr};

use crate::ffi;
use crate::worker::Seat;

/// Why a call into libsuricata did not succeed. Its log lines say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There is, or was, an engine in this process.
    AlreadyBegun,
    /// Suricata reported a failure.
    Failed,
    /// Suricata wanted to exit the process. The engine is unusable; the process goes on.
    Exited,
    /// An argument holds a NUL byte.
    Nul,
    /// No packet buffer could be had: out of memory.
    NoPacket,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyBegun => "an engine was already started in this process",
            Self::Failed => "Suricata reported a failure",
            Self::Exited => "Suricata gave up",
            Self::Nul => "a setting holds a NUL byte",
            Self::NoPacket => "Suricata has no memory for a packet",
        })
    }
}

impl std::error::Error for Failure {}

pub(crate) fn check(code: c_int) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        ffi::EXITED => Err(Failure::Exited),
        ffi::NO_PACKET => Err(Failure::NoPacket),
        _ => Err(Failure::Failed),
    }
}

/// Suricata's main functions keep state in thread-local storage, so all stages are bound to the thread that began.
type Bound = PhantomData<*mut ()>;

/// The names of Suricata's application protocols, by their numbers. Copied once they are complete: Suricata's own table
/// is not there before.
static APP_PROTOCOLS: OnceLock<Vec<String>> = OnceLock::new();

/// The first stage of the engine's main thread. Each stage is consumed by what leads to the next, so that nothing is
/// called out of order, or again after a failure:
///
/// ```text
/// begin() ─► Begun ─load_yaml()─► Configured ─init()─► Ready ─post_init()─► Running ─main_loop()─► Ending ─shut_down()
/// ```
///
/// ```compile_fail
/// // An engine that does not run cannot be shut down.
/// fn end(engine: suricata_sys::Begun) {
///     engine.shut_down().ok();
/// }
/// ```
///
/// ```
/// fn end(engine: suricata_sys::Ending) {
///     engine.shut_down().ok();
/// }
/// ```
#[derive(Debug)]
pub struct Begun {
    workers: u16,
    _bound: Bound,
}

/// Settings are loaded, and may be changed.
#[derive(Debug)]
pub struct Configured {
    workers: u16,
    _bound: Bound,
}

/// Rules are loaded, and seats are given out.
#[derive(Debug)]
pub struct Ready(Bound);

/// Workers may feed.
#[derive(Debug)]
pub struct Running(Bound);

/// The main loop was told to end.
#[derive(Debug)]
pub struct Ending(Bound);

/// Begins the engine of this process (`SuricataPreInit`, `SCParseCommandLine`). `arguments` are those of the `suricata`
/// program, the program name first. `inline` selects IPS mode.
///
/// # Errors
/// [`Failure::AlreadyBegun`] the second time; whatever Suricata has against the arguments.
pub fn begin(arguments: Vec<CString>, inline: bool, workers: u16) -> Result<Begun, Failure> {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    if BEGUN.swap(true, Ordering::SeqCst) {
        return Err(Failure::AlreadyBegun);
    }
    let count = c_int::try_from(arguments.len()).map_err(|_| Failure::Failed)?;
    let mut pointers = arguments.into_iter().map(CString::into_raw).collect::<Vec<*mut c_char>>();
    if pointers.is_empty() {
        return Err(Failure::Failed);
    }
    pointers.push(ptr::null_mut());
    // Suricata keeps pointers into argv for as long as it lives, which is as long as the process.
    let argv = Box::leak(pointers.into_boxed_slice());
    // SAFETY: first and only call (BEGUN); argv is null-terminated, leaked, and holds `count` C strings, one at least.
    check(unsafe { ffi::mgs_begin(count, argv.as_mut_ptr(), inline.into(), workers.into()) })?;
    Ok(Begun { workers, _bound: PhantomData })
}

impl Begun {
    /// Replaces the rule file `argument` (given with `-s`) by all files that match these glob
    /// patterns. Each pattern must match a file.
    pub fn name_rules(&mut self, argument: CString, files: Vec<CString>) {
        let mut pointers =
            files.into_iter().map(|file| file.into_raw().cast_const()).collect::<Vec<_>>();
        pointers.push(ptr::null());
        let files = Box::leak(pointers.into_boxed_slice());
        // SAFETY: on the thread that began the engine, before rules are read; both are C strings or a null-terminated
        // list of them, and leaked, since they are looked at again with every reload.
        unsafe { ffi::mgs_name_rules(argument.into_raw(), files.as_ptr()) }
    }

    /// Loads the YAML that the arguments name.
    ///
    /// # Errors
    /// Suricata's; the log says more.
    pub fn load_yaml(self) -> Result<Configured, Failure> {
        // SAFETY: on the thread that began the engine, once, after begin.
        check(unsafe { ffi::mgs_load_yaml() })?;
        Ok(Configured { workers: self.workers, _bound: PhantomData })
    }
}

impl Configured {
    /// A setting as loaded, `None` if absent or not a plain value.
    pub fn setting(&self, name: &str) -> Option<String> {
        let name = CString::new(name).ok()?;
        // SAFETY: the name is a C string; the result is null or a C string that stays until the next call.
        unsafe {
            let value = ffi::mgs_conf_get(name.as_ptr());
            (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
        }
    }

    /// Sets a value that nothing later changes (`SCConfSetFinal`).
    ///
    /// # Errors
    /// [`Failure::Nul`]; Suricata's.
    pub fn force(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let name = CString::new(name).map_err(|_| Failure::Nul)?;
        let value = CString::new(value).map_err(|_| Failure::Nul)?;
        // SAFETY: both are C strings, copied by the callee.
        check(unsafe { ffi::mgs_conf_force(name.as_ptr(), value.as_ptr()) })
    }

    /// Takes a setting away, with all below it; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let Ok(name) = CString::new(name) else { return false };
        // SAFETY: on the thread that began the engine, before init; the name is a C string.
        unsafe { ffi::mgs_conf_remove(name.as_ptr()) != 0 }
    }

    /// Compiled patterns are read from the cache that the settings name, if any, but none are put there
    /// (`HSSaveCacheIterator`).
    pub fn keep_no_patterns(&mut self) {
        // SAFETY: sets a flag that is read on this thread, which loads all rules.
        unsafe { ffi::mgs_keep_no_patterns() }
    }

    /// Flows of this lane never appear in EVE; 0 for none.
    pub fn silence(&mut self, lane: u64) {
        // SAFETY: stores a number that only threads read which init starts, and workers, whose seats it gives out.
        unsafe { ffi::mgs_set_silent_lane(lane) }
    }

    /// Reads settings and rules (`SuricataInit`), which takes seconds with many rules, and gives out the workers'
    /// seats.
    ///
    /// # Errors
    /// Suricata's; the log says more.
    pub fn init(self) -> Result<(Ready, Vec<Seat>), Failure> {
        // SAFETY: on the thread that began the engine, once, after load_yaml.
        check(unsafe { ffi::mgs_init() })?;
        // SAFETY: after init, as all below: the table is complete and stays as it is. It is read for numbers below its
        // size; the names are null or C strings that stay.
        let name = |protocol| unsafe { literal(ffi::mgs_app_proto_name(protocol)) }.to_owned();
        // SAFETY: reads a number.
        let count = unsafe { ffi::mgs_app_proto_count() };
        let _ = APP_PROTOCOLS.set((0..count).map(name).collect());
        Ok((Ready(PhantomData), (0..self.workers).map(Seat::new).collect()))
    }
}

impl Ready {
    /// Waits until the workers, which must be in [`Seat::attach`] by now, are ready, and starts all threads.
    ///
    /// # Errors
    /// Suricata's; workers that wait are let go.
    ///
    /// [`Seat::attach`]: crate::Seat::attach
    pub fn post_init(self) -> Result<Running, Failure> {
        // SAFETY: on the thread that began the engine, once, after init.
        check(unsafe { ffi::mgs_post_init() })?;
        Ok(Running(PhantomData))
    }
}

impl Running {
    /// Serves reloads until [`stop`] is called.
    ///
    /// # Errors
    /// Suricata's; workers that wait are let go.
    pub fn main_loop(self) -> Result<Ending, Failure> {
        // SAFETY: on the thread that began the engine, once, after post_init.
        check(unsafe { ffi::mgs_main_loop() })?;
        Ok(Ending(PhantomData))
    }
}

impl Ending {
    /// Ends the engine; waits for each worker to be in [`RawWorker::finish`].
    ///
    /// # Errors
    /// Suricata's; workers that wait are let go.
    ///
    /// [`RawWorker::finish`]: crate::RawWorker::finish
    pub fn shut_down(self) -> Result<(), Failure> {
        // SAFETY: on the thread that began the engine, once, after main_loop.
        check(unsafe { ffi::mgs_shutdown() })
    }
}

/// Asks the main loop to end. Any thread.
pub fn stop() {
    // SAFETY: sets a flag.
    unsafe { ffi::mgs_stop() }
}

/// Whether the engine is ending.
pub fn stopping() -> bool {
    // SAFETY: reads a flag.
    unsafe { ffi::mgs_stopping() != 0 }
}

/// Asks the main loop to load the rules anew; fails if it is at it.
pub fn reload_start() -> Result<(), Failure> {
    // SAFETY: takes a lock of its own; any thread.
    check(unsafe { ffi::mgs_reload_start() })
}

/// Whether a reload was asked for and is not done.
pub fn reload_pending() -> bool {
    // SAFETY: takes a lock of its own; any thread.
    unsafe { ffi::mgs_reload_pending() != 0 }
}

/// Makes Suricata reopen its log files before it next writes to them.
pub fn rotate_logs() {
    // SAFETY: takes a lock of its own; any thread.
    unsafe { ffi::mgs_rotate_logs() }
}

/// Lines of log files, EVE's among them, that could not be written.
pub fn lines_lost() -> u64 {
    // SAFETY: reads a number.
    unsafe { ffi::mgs_lines_lost() }
}

/// Suricata's version, such as `8.0.7`.
pub fn version() -> &'static str {
    // SAFETY: a string literal of the library.
    unsafe { literal(ffi::mgs_version()) }
}

/// Gives memory that is free back to the system (`malloc_trim(3)`), that of the whole process. Takes milliseconds, in
/// which allocations of other threads wait.
pub fn give_memory_back() {
    // SAFETY: takes nothing; the C library locks what it looks at.
    unsafe { ffi::mgs_give_memory_back() }
}

/// The name that rules use for an engine event, such as `stream.wrong_thread`.
pub fn event_name(event: u8) -> &'static str {
    // SAFETY: an entry of a constant table.
    unsafe { literal(ffi::mgs_event_name(event)) }
}

/// Suricata's words for a drop reason, such as `rules`.
pub fn drop_reason_name(reason: u8) -> &'static str {
    // SAFETY: a string literal of the library.
    unsafe { literal(ffi::mgs_drop_reason_name(reason)) }
}

/// Suricata's name of an application protocol, such as `http` (that is HTTP/1) or `tls`; `unknown` as long as no engine
/// was initialised.
pub fn app_protocol_name(protocol: u16) -> &'static str {
    let names = APP_PROTOCOLS.get();
    names.and_then(|names| names.get(usize::from(protocol))).map_or("unknown", String::as_str)
}

/// The number of the application protocol that Suricata calls so; none as long as no engine was initialised.
pub fn app_protocol_number(name: &str) -> Option<u16> {
    let at = APP_PROTOCOLS.get()?.iter().position(|known| known == name)?;
    u16::try_from(at).ok()
}

/// # Safety
/// `text` is null or a C string that is never freed.
unsafe fn literal(text: *const c_char) -> &'static str {
    if text.is_null() {
        return "unknown";
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("unknown")
}
