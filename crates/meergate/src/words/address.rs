//! What an address stands for, in whatever form it is written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The IPv4 address that packets to an IPv6 address end at, where a network on the way translates or
/// unwraps them: mapped (`::ffff:a.b.c.d`), compatible (`::a.b.c.d`) and translated
/// (`::ffff:0:a.b.c.d`) addresses (RFC 4291 section 2.5.5, RFC 2765), NAT64 (`64:ff9b::/96` of RFC
/// 6052; of RFC 8215's `64:ff9b:1::/48` the form with the address at the end), 6to4 (RFC 3056), Teredo
/// (RFC 4380) and ISATAP (RFC 5214).
pub fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if ![Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST].contains(&ip) => {
            Some(v4(g, h))
        }
        [0, 0, 0, 0, 0, 0xffff]
        | [0, 0, 0, 0, 0xffff, 0]
        | [0x64, 0xff9b, 0, 0, 0, 0]
        | [0x64, 0xff9b, 1, ..] => Some(v4(g, h)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, ..] => Some(v4(!g, !h)),
        [.., 0 | 0x200, 0x5efe] => Some(v4(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_are_found_in_ipv6_ones() {
        for text in [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:2:3:4:127.0.0.1",
            "2002:7f00:1::",
            "2002:7f00:1:2:3::4",
            "2001:0:1:2:3:4:80ff:fffe",
            "fe80::5efe:127.0.0.1",
            "2001:db8::200:5efe:127.0.0.1",
        ] {
            assert_eq!(embedded(text.parse().unwrap()), Some(Ipv4Addr::LOCALHOST), "{text}");
        }
        for text in ["::", "::1", "2001:db8::7f00:1", "fe80::1", "127.0.0.1"] {
            assert_eq!(embedded(text.parse().unwrap()), None, "{text}");
        }
    }
}
