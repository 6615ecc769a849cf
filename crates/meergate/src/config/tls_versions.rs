//! Versions of TLS, for all connections and for those of a listener or a rule.

use serde::Deserialize;

use super::value::BadValue;

/// A version of TLS that is spoken. The greater is newer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

/// The versions that may be spoken on a connection, on both of its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsVersions {
    min: TlsVersion,
    max: TlsVersion,
}

/// What a listener or a rule says of them; nothing where it leaves them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsBounds {
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
}

impl TlsVersions {
    /// All of them.
    pub const ALL: Self = Self { min: TlsVersion::Tls12, max: TlsVersion::Tls13 };

    /// Each choice of them.
    pub const CHOICES: [Self; 3] = [
        Self::ALL,
        Self { min: TlsVersion::Tls12, max: TlsVersion::Tls12 },
        Self { min: TlsVersion::Tls13, max: TlsVersion::Tls13 },
    ];

    /// From `min` to `max`.
    ///
    /// # Errors
    /// There are none.
    pub fn new(min: TlsVersion, max: TlsVersion) -> Result<Self, BadValue> {
        if min > max { Err(NONE.into()) } else { Ok(Self { min, max }) }
    }

    /// The oldest and the newest.
    pub fn ends(self) -> (TlsVersion, TlsVersion) {
        (self.min, self.max)
    }

    /// These as a listener or a rule has them: a bound that it sets holds, and moves the other one if it does not
    /// set that too.
    #[must_use]
    pub fn within(self, bounds: TlsBounds) -> Self {
        let (min, max) = (bounds.min.unwrap_or(self.min), bounds.max.unwrap_or(self.max));
        match bounds.min {
            Some(_) => Self { min, max: max.max(min) },
            None => Self { min: min.min(max), max },
        }
    }

    /// Those that are among `others` too; if there is none, the newer one of both.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        let min = self.min.max(others.min);
        Self { min, max: self.max.min(others.max).max(min) }
    }
}

impl TlsBounds {
    /// Those that are set.
    ///
    /// # Errors
    /// They leave nothing.
    pub fn new(min: Option<TlsVersion>, max: Option<TlsVersion>) -> Result<Self, BadValue> {
        match (min, max) {
            (Some(min), Some(max)) if min > max => Err(NONE.into()),
            _ => Ok(Self { min, max }),
        }
    }
}

impl From<TlsVersions> for TlsBounds {
    fn from(TlsVersions { min, max }: TlsVersions) -> Self {
        Self { min: Some(min), max: Some(max) }
    }
}

const NONE: &str = "the oldest version of TLS is newer than the newest one";

#[cfg(test)]
mod tests {
    use super::TlsVersion::{Tls12, Tls13};
    use super::*;

    #[test]
    fn what_is_nearer_holds() {
        let of = |min, max| TlsVersions::new(min, max).unwrap();
        let (old, new) = (of(Tls12, Tls12), of(Tls13, Tls13));
        for (versions, min, max, expected) in [
            (TlsVersions::ALL, None, None, TlsVersions::ALL),
            (TlsVersions::ALL, Some(Tls13), None, new),
            (TlsVersions::ALL, None, Some(Tls12), old),
            (new, Some(Tls12), None, TlsVersions::ALL),
            (new, None, Some(Tls12), old),
            (old, Some(Tls13), None, new),
            (old, None, Some(Tls13), TlsVersions::ALL),
        ] {
            assert_eq!(versions.within(TlsBounds::new(min, max).unwrap()), expected);
            assert_eq!(TlsVersions::ALL.within(versions.into()), versions);
        }
        assert!(TlsBounds::new(Some(Tls13), Some(Tls12)).is_err());
        assert!(TlsVersions::new(Tls13, Tls12).is_err());
    }

    #[test]
    fn of_two_the_stricter_holds() {
        let [all, old, new] = TlsVersions::CHOICES;
        for (one, other, expected) in [(all, old, old), (all, new, new), (old, new, new)] {
            assert_eq!((one.and(other), other.and(one)), (expected, expected));
        }
    }
}
