//! The declarations of `shim/mgs.h`, by hand: there are few, and they change with the shim.

use std::ffi::{c_char, c_int, c_uint};

use crate::outcome::Outcome;

/// An opaque worker of the shim.
#[repr(C)]
pub(crate) struct Worker {
    _private: [u8; 0],
}

pub(crate) const EXITED: c_int = -1;
pub(crate) const NO_PACKET: c_int = -3;

unsafe extern "C" {
    pub(crate) fn mgs_begin(
        argc: c_int,
        argv: *mut *mut c_char,
        inline_mode: c_int,
        workers: c_uint,
    ) -> c_int;
    pub(crate) fn mgs_name_rules(argument: *const c_char, files: *const *const c_char);
    pub(crate) fn mgs_load_yaml() -> c_int;
    pub(crate) fn mgs_conf_get(name: *const c_char) -> *const c_char;
    pub(crate) fn mgs_conf_force(name: *const c_char, value: *const c_char) -> c_int;
    pub(crate) fn mgs_conf_remove(name: *const c_char) -> c_int;
    pub(crate) fn mgs_keep_no_patterns();
    pub(crate) fn mgs_init() -> c_int;
    pub(crate) fn mgs_post_init() -> c_int;
    pub(crate) fn mgs_main_loop() -> c_int;
    pub(crate) fn mgs_shutdown() -> c_int;

    pub(crate) fn mgs_stop();
    pub(crate) fn mgs_stopping() -> c_int;
    pub(crate) fn mgs_reload_start() -> c_int;
    pub(crate) fn mgs_reload_pending() -> c_int;
    pub(crate) fn mgs_rotate_logs();
    pub(crate) fn mgs_lines_lost() -> u64;
    pub(crate) fn mgs_give_memory_back();
    pub(crate) fn mgs_version() -> *const c_char;
    pub(crate) fn mgs_event_name(event: u8) -> *const c_char;
    pub(crate) fn mgs_drop_reason_name(reason: u8) -> *const c_char;
    pub(crate) fn mgs_app_proto_name(proto: u16) -> *const c_char;
    pub(crate) fn mgs_app_proto_count() -> u16;
    pub(crate) fn mgs_set_silent_lane(lane: u64);

    pub(crate) fn mgs_worker_at(index: c_uint) -> *mut Worker;
    pub(crate) fn mgs_worker_attach(worker: *mut Worker) -> c_int;
    pub(crate) fn mgs_worker_packet(
        worker: *mut Worker,
        data: *mut u8,
        len: u32,
        lane: u64,
        flow_id: u64,
        note: c_int,
        outcome: *mut Outcome,
    ) -> c_int;
    pub(crate) fn mgs_worker_seam(
        worker: *mut Worker,
        before: *const u8,
        len: u32,
        framing: u32,
    ) -> c_int;
    pub(crate) fn mgs_worker_idle(worker: *mut Worker);
    pub(crate) fn mgs_worker_field(
        worker: *mut Worker,
        slot: c_uint,
        key: *const c_char,
        key_len: usize,
        value: *const c_char,
        value_len: usize,
    ) -> c_int;
    pub(crate) fn mgs_worker_finish(worker: *mut Worker);
}
