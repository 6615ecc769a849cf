//! Why a connection is closed, in numbers (RFC 6455 section 7.4).

/// A code that a close frame may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(u16);

impl CloseCode {
    /// An endpoint goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// What cannot be read as what it is said to be.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// Something unexpected happened to who closes.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// A message violates a policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// A peer breaks the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// A message is too big.
    pub const TOO_BIG: Self = Self(1009);

    /// There is no room now (IANA's registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code of that number; `None` if no frame may carry it: those that are reserved, or that nobody has
    /// defined (sections 7.4.1 and 7.4.2, and IANA's registry: 1012 to 1014).
    pub const fn new(number: u16) -> Option<Self> {
        match number {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}
