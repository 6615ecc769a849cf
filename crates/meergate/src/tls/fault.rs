//! What can be wrong with an origin's certificate.

use rustls::CertificateError;

/// Why a certificate is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Its time has passed.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Its CA has taken it back.
    Revoked,
    /// Its chain is broken or leads to nobody we trust, or anything else is wrong with it.
    Untrusted,
    /// It is for other names.
    WrongName,
}

impl Fault {
    /// Whether clients find the fault themselves in a leaf that says what the original says.
    pub(super) fn shows_in_leaf(self) -> bool {
        !matches!(self, Self::Revoked | Self::Untrusted)
    }

    /// One word, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Revoked => "revoked",
            Self::Untrusted => "untrusted",
            Self::WrongName => "wrong-name",
        }
    }
}

/// The fault, and in words for the people who see the error page.
pub(super) fn explain(error: &rustls::Error) -> (Fault, String) {
    let rustls::Error::InvalidCertificate(error) = error else {
        return (Fault::Untrusted, error.to_string());
    };
    let (fault, words) = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (Fault::Expired, "it has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (Fault::NotYetValid, "it is not valid yet")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (Fault::WrongName, "it is for another name")
        }
        CertificateError::UnknownIssuer => {
            (Fault::Untrusted, "its issuer is not trusted (or it is self-signed)")
        }
        CertificateError::Revoked => (Fault::Revoked, "it has been revoked"),
        CertificateError::BadEncoding => (Fault::Untrusted, "it is malformed"),
        CertificateError::BadSignature => (Fault::Untrusted, "a signature in its chain is wrong"),
        CertificateError::InvalidPurpose => (Fault::Untrusted, "it is not for servers"),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            (Fault::Untrusted, "it is a CA's certificate, used as a server's")
        }
        CertificateError::Other(other) if other.to_string().contains("CriticalExtension") => {
            (Fault::Untrusted, "it has a critical extension that is not known here")
        }
        CertificateError::Other(other) if other.to_string().contains("CertVersion") => {
            (Fault::Untrusted, "it is of an old version of X.509")
        }
        other => return (Fault::Untrusted, other.to_string()),
    };
    (fault, words.to_owned())
}
