//! The CA in the forms in which devices take it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{Authority, fingerprint};

impl Authority {
    /// The subject, as `CN=…, O=…`.
    pub fn subject_text(&self) -> String {
        X509Certificate::from_der(self.certificate())
            .map(|(_, certificate)| certificate.subject().to_string())
            .unwrap_or_default()
    }

    /// The end of the certificate's validity, as text.
    pub fn valid_until(&self) -> String {
        date(self.not_after)
    }

    /// A configuration profile that has iPhones and Macs offer to install what is to be trusted.
    pub fn mobileconfig(&self) -> String {
        let id = uuid(self.certificate());
        let name = escape(&self.subject_text());
        let entry = |key: &str, value: &str| format!("<key>{key}</key><string>{value}</string>\n");
        let common = |kind: &str, id: &str| {
            entry("PayloadType", kind)
                + &entry("PayloadIdentifier", &format!("meergate.ca.{id}"))
                + &entry("PayloadUUID", id)
                + &entry("PayloadDisplayName", &name)
                + "<key>PayloadVersion</key><integer>1</integer>\n"
        };
        let inner: String = self
            .trusted()
            .into_iter()
            .map(|root| {
                format!(
                    "<dict>\n{}<key>PayloadContent</key><data>{}</data>\n</dict>",
                    common("com.apple.security.root", &uuid(root)[0]),
                    STANDARD.encode(root)
                )
            })
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
             \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
             <plist version=\"1.0\"><dict>\n{}<key>PayloadContent</key><array>\n{inner}\n</array>\n\
             </dict></plist>\n",
            common("Configuration", &id[1])
        )
    }
}

/// Two stable UUIDs (RFC 9562 version 8) out of a certificate's hash.
fn uuid(certificate: &[u8]) -> [String; 2] {
    let hash = fingerprint(certificate).replace(':', "");
    let uuid = |h: &str| {
        format!("{}-{}-8{}-A{}-{}", &h[..8], &h[8..12], &h[13..16], &h[17..20], &h[20..32])
    };
    [uuid(&hash[..32]), uuid(&hash[32..])]
}

/// A time in seconds since 1970, as text.
pub(super) fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map(|t| t.to_string()).unwrap_or_default()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_holds_the_certificate_and_keeps_its_ids() {
        let authority = Authority::generate().unwrap();
        let profile = authority.mobileconfig();
        assert!(profile.contains(&STANDARD.encode(authority.certificate())));
        assert!(!profile.contains("PRIVATE"));
        assert_eq!(profile, authority.mobileconfig());
        let [a, b] = uuid(authority.certificate());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
    }
}
