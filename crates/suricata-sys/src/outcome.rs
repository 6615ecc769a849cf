//! What the engine made of one packet.

const ALERTS_KEPT: usize = 16;

/// Bits of [`Outcome::flags`].
pub mod flag {
    /// The engine gave the packet back.
    pub const RELEASED: u32 = 1 << 0;
    /// The packet went through detection.
    pub const INSPECTED: u32 = 1 << 1;
    /// The packet was dropped.
    pub const DROPPED: u32 = 1 << 2;
    /// The packet belongs to a flow; `flow_id` and `app_protocol` are set.
    pub const HAS_FLOW: u32 = 1 << 3;
    /// The payload went into stream reassembly.
    pub const ADDED: u32 = 1 << 4;
    /// Application-layer parsing was given up for this flow.
    pub const APP_DISABLED: u32 = 1 << 5;
    /// A pass rule took the flow out of detection.
    pub const PASSED: u32 = 1 << 6;
    /// Payload inspection is off for this flow.
    pub const NO_PAYLOAD: u32 = 1 << 7;
    /// The flow is bypassed: a rule said so.
    pub const BYPASSED: u32 = 1 << 8;
    /// Neither a parser nor a rule has use for this direction of the stream, so it is not kept.
    pub const UNNEEDED: u32 = 1 << 9;
    /// The parser of SMTP takes what the client says next for a mail.
    pub const READS_MAIL: u32 = 1 << 10;
    /// A parser has the flow, and had all of it from its beginning.
    pub const PARSED: u32 = 1 << 11;
    /// No rule has use for the bytes of this direction, and so far no parser either.
    pub const UNREAD: u32 = 1 << 12;
}

/// Values of [`Outcome::loss`]: what the engine went on without looking at.
pub mod loss {
    /// Nothing was lost.
    pub const NOTHING: u8 = 0;
    /// An allocation was refused, at a memory cap of Suricata's or for want of memory.
    pub const MEMORY: u8 = 1;
    /// Content of a message, or of a file in it, was not kept for the rules.
    pub const CONTENT: u8 = 2;
    /// Data of the stream was not kept for the parser.
    pub const STREAM: u8 = 3;
    /// A rule gave up on what it looked at.
    pub const RULE: u8 = 4;
}

/// An alert: one signature that matched (`struct mgs_alert`).
#[repr(C)]
#[derive(Clone)]
pub struct Alert {
    /// Generator id; 1 for ordinary rules.
    pub gid: u32,
    /// Signature id.
    pub sid: u32,
    /// Revision of the signature.
    pub rev: u32,
    /// Priority, 1 being the highest.
    pub priority: i32,
    drop: u8,
    deciding: u8,
    message_len: u16,
    category_len: u16,
    message: [u8; 256],
    category: [u8; 96],
}

impl Alert {
    /// Whether the rule's action drops.
    pub fn drops(&self) -> bool {
        self.drop != 0
    }

    /// Whether this rule is why the packet was dropped.
    pub fn decided(&self) -> bool {
        self.deciding != 0
    }

    /// The rule's `msg`, cut at 256 bytes; not necessarily UTF-8.
    pub fn message(&self) -> &[u8] {
        self.message.get(..usize::from(self.message_len)).unwrap_or_default()
    }

    /// The text of the rule's `classtype`, cut at 96 bytes, empty if unknown.
    pub fn category(&self) -> &[u8] {
        self.category.get(..usize::from(self.category_len)).unwrap_or_default()
    }
}

/// What the engine made of one packet (`struct mgs_outcome`).
#[repr(C)]
pub struct Outcome {
    /// Bits of [`flag`].
    pub flags: u32,
    /// Suricata's number of the application protocol; 0 is unknown.
    pub app_protocol: u16,
    /// Suricata's `PacketDropReason`.
    pub drop_reason: u8,
    /// How many engine events (decoder, stream) the packet caused.
    pub event_count: u8,
    /// The first of them.
    pub event: u8,
    /// The first of [`loss`] on this packet.
    pub loss: u8,
    alert_count: u32,
    /// Alerts for which there was no room, since [`Outcome::forget_alerts`].
    pub alerts_lost: u32,
    /// The flow's identity: stays the same for its whole life.
    pub flow_id: u64,
    /// Bytes of HTTP/1 content that this packet brought and that were kept for the rules: of requests, of responses.
    pub content: [u64; 2],
    alerts: [Alert; ALERTS_KEPT],
}

// The shim asserts the same sizes.
const _: () = assert!(size_of::<Alert>() == 376 && size_of::<Outcome>() == 6064);

impl Outcome {
    pub(crate) fn new() -> Box<Self> {
        const NONE: Alert = Alert {
            gid: 0,
            sid: 0,
            rev: 0,
            priority: 0,
            drop: 0,
            deciding: 0,
            message_len: 0,
            category_len: 0,
            message: [0; 256],
            category: [0; 96],
        };
        Box::new(Self {
            flags: 0,
            app_protocol: 0,
            drop_reason: 0,
            event_count: 0,
            event: 0,
            loss: loss::NOTHING,
            alert_count: 0,
            alerts_lost: 0,
            flow_id: 0,
            content: [0; 2],
            alerts: [NONE; ALERTS_KEPT],
        })
    }

    /// Whether all of `bits` are set.
    pub fn has(&self, bits: u32) -> bool {
        self.flags & bits == bits
    }

    /// The alerts since [`Outcome::forget_alerts`], at most 16.
    pub fn alerts(&self) -> &[Alert] {
        self.alerts.get(..self.alert_count as usize).unwrap_or(&self.alerts)
    }

    /// Empties the list of alerts, which otherwise grows from packet to packet.
    pub fn forget_alerts(&mut self) {
        self.alert_count = 0;
        self.alerts_lost = 0;
    }
}
