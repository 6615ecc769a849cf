//! What any thread may call at any time is safe before there is an engine.

#[test]
fn what_needs_no_engine_answers_without_one() {
    // Suricata's table of protocols does not exist yet.
    for protocol in [0, 1, 3, 50, u16::MAX] {
        assert_eq!(suricata_sys::app_protocol_name(protocol), "unknown");
    }
    for number in 0..=u8::MAX {
        assert!(!suricata_sys::drop_reason_name(number).is_empty());
        assert!(!suricata_sys::event_name(number).is_empty());
    }
    suricata_sys::rotate_logs();
    assert!(!suricata_sys::reload_pending());
    assert!(!suricata_sys::stopping());
    assert!(suricata_sys::version().starts_with('8'));
}
