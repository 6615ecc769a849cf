//! What EVE records say besides what Suricata puts there.

use suricata_sys::FIELD_SLOTS;

use crate::error::{Error, ErrorKind};
use crate::worker::Worker;

const LONGEST_KEY: usize = 31;
const LONGEST_VALUE: usize = 159;

/// What Suricata itself writes into each record (`CreateEveHeader`, `output-json.c`): a second one would be believed.
const SURICATAS: &[&str] = &[
    "alert",
    "app_proto",
    "community_id",
    "dest_ip",
    "dest_port",
    "direction",
    "event_type",
    "flow",
    "flow_id",
    "host",
    "in_iface",
    "ip_v",
    "metadata",
    "packet",
    "packet_info",
    "parent_id",
    "pcap_cnt",
    "pcap_filename",
    "pkt_src",
    "proto",
    "src_ip",
    "src_port",
    "timestamp",
    "tx_id",
    "vlan",
];

impl Worker {
    /// Sets the text fields that EVE records caused by this worker's calls carry from now on, at most 4, such as
    /// `("transaction_id", "…")`. Earlier ones are gone. A field without a value is left out.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`], and the fields stay as they were: for more than 4 of them, a key twice, one that is
    /// Suricata's (`event_type`), one that is empty, over 31 bytes, or holds anything but ASCII letters, digits and `_`, a
    /// value over 159 bytes or with NUL bytes.
    pub fn annotate(&mut self, fields: &[(&str, &str)]) -> Result<(), Error> {
        check(fields)?;
        let raw = self.raw()?;
        for slot in 0..FIELD_SLOTS {
            let (key, value) = fields.get(slot).copied().unwrap_or_default();
            raw.set_field(slot, key, value).map_err(|failure| {
                Error::new(ErrorKind::Misuse, format!("the EVE field {key} was refused"))
                    .with_source(failure)
            })?;
        }
        Ok(())
    }
}

/// Values are escaped, keys go into the record as they are.
fn check(fields: &[(&str, &str)]) -> Result<(), Error> {
    let misuse = |what: String| Err(Error::new(ErrorKind::Misuse, what));
    if fields.len() > FIELD_SLOTS {
        return misuse(format!("EVE records take at most {FIELD_SLOTS} fields"));
    }
    for (index, (key, value)) in fields.iter().enumerate() {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !(1..=LONGEST_KEY).contains(&key.len()) || !key.bytes().all(is_plain) {
            return misuse(format!(
                "the key {key:?} of an EVE field is not 1 to {LONGEST_KEY} letters, digits and _"
            ));
        }
        if SURICATAS.contains(key) || fields.iter().take(index).any(|(other, _)| other == key) {
            return misuse(format!("an EVE record has a field {key} already"));
        }
        if value.len() > LONGEST_VALUE || value.contains('\0') {
            return misuse(format!(
                "the value of the EVE field {key} is over {LONGEST_VALUE} bytes, or holds a NUL byte"
            ));
        }
    }
    Ok(())
}
