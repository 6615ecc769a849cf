//! Which fields of a request a signature covers: to change one of those is to have the request
//! refused by its origin.

use http_wire::RequestHead;

/// Whether the request says that a signature of its own covers the field `name`: HTTP message
/// signatures (RFC 9421) and their draft, AWS signature version 4 in a field or in the query and
/// those of other clouds that are made like it, and Azure's shared keys.
///
/// What it says is not verified. A client that says so of a field has it left alone, no more.
pub(super) fn covers(head: &RequestHead, name: &str) -> bool {
    let covers = |list: &[u8], separator: u8| {
        list.split(|&b| b == separator)
            .any(|n| n.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    };
    head.all("Authorization").any(|field| {
        is_azure(field.value) && AZURE.contains(&name)
            || parameters(field.value, b", &").any(|list| covers(list, b';'))
            || quoted(field.value, b"headers=").is_some_and(|list| covers(list, b' '))
    }) || head.all("Signature-Input").any(|field| {
        // Names of components are strings, which nothing else in the field is but a nonce or a key.
        field.value.split(|&b| b == b'"').skip(1).step_by(2).any(|n| covers(n, b'"'))
    }) || head
        .all("Signature")
        .any(|field| quoted(field.value, b"headers=").is_some_and(|list| covers(list, b' ')))
        || parameters(query(head.target()), b"&").any(|list| {
            let list = String::from_utf8_lossy(list).to_ascii_lowercase().replace("%3b", ";");
            covers(list.as_bytes(), b';')
        })
}

/// Names of parameters with a list of covered fields, in the field or in the query, at their ends.
const LISTS: [&[u8]; 4] =
    [b"signedheaders", b"additionalheaders", b"additional-headers", b"q-header-list"];

/// Fields that Azure's shared keys always cover, of those that are asked for here.
const AZURE: [&str; 1] = ["Range"];

fn is_azure(authorization: &[u8]) -> bool {
    authorization.get(..10).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"SharedKey "))
}

/// The values of parameters that list covered fields.
fn parameters<'a>(text: &'a [u8], separators: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    text.split(|b| separators.contains(b)).filter_map(|parameter| {
        let equals = parameter.iter().position(|&b| b == b'=')?;
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        let is_list = |list: &&[u8]| {
            name.len() >= list.len() && name[name.len() - list.len()..].eq_ignore_ascii_case(list)
        };
        LISTS.iter().any(is_list).then_some(value)
    })
}

/// The quoted value after `name`.
fn quoted<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(name.len()).position(|w| w.eq_ignore_ascii_case(name))? + name.len();
    text[at..].strip_prefix(b"\"")?.split(|&b| b == b'"').next()
}

fn query(target: &[u8]) -> &[u8] {
    target.iter().position(|&b| b == b'?').map_or(&[], |at| &target[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_wire::Limits;

    fn covered(target: &str, fields: &str) -> (bool, bool) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::from_bytes(text.into(), &Limits::default()).unwrap();
        (covers(&head, "Range"), covers(&head, "Accept-Encoding"))
    }

    #[test]
    fn what_clouds_and_message_signatures_cover() {
        let aws = |list| {
            let scope = "AWS4-HMAC-SHA256 Credential=AK/20260101/eu/s3/aws4_request";
            format!("Authorization: {scope}, SignedHeaders={list}, Signature=00\r\n")
        };
        for (target, fields, expected) in [
            ("/", String::new(), (false, false)),
            ("/", aws("host;range;x-amz-date"), (true, false)),
            ("/", aws("accept-encoding;host"), (false, true)),
            ("/", aws("host;x-range"), (false, false)),
            ("/", aws("host").replace(", ", ","), (false, false)),
            ("/", aws("host;Range").replace(", ", ","), (true, false)),
            ("/?X-Amz-SignedHeaders=host%3brange&a=b", String::new(), (true, false)),
            ("/?a&X-Goog-SignedHeaders=accept-encoding;host", String::new(), (false, true)),
            ("/?range=accept-encoding", String::new(), (false, false)),
            ("/?q-header-list=host;range", String::new(), (true, false)),
            (
                "/",
                "Authorization: OSS4-HMAC-SHA256 Credential=a,AdditionalHeaders=host;range,Signature=0\r\n".into(),
                (true, false),
            ),
            ("/", "Authorization: SharedKey account:AAAA=\r\n".into(), (true, false)),
            ("/", "Authorization: SharedKeyLite account:AAAA=\r\n".into(), (false, false)),
            ("/", "Authorization: Bearer range\r\n".into(), (false, false)),
            (
                "/",
                "Signature-Input: a=(\"@method\" \"accept-encoding\");created=1, b=(\"range\";sf)\r\n".into(),
                (true, true),
            ),
            ("/", "Signature-Input: a=(\"@method\");keyid=\"x range\"\r\n".into(), (false, false)),
            (
                "/",
                "Authorization: Signature keyId=\"a\",headers=\"(request-target) range\",signature=\"0\"\r\n".into(),
                (true, false),
            ),
            ("/", "Signature: keyId=\"a\",headers=\"date accept-encoding\"\r\n".into(), (false, true)),
        ] {
            assert_eq!(covered(target, &fields), expected, "{target} {fields}");
        }
    }
}
