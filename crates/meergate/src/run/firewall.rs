//! The nftables rules and routes that bring connections to transparent listeners.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use start_error::StartError;

use crate::config::{Config, Firewall, Way};

const TABLE: &str = "inet meergate";

/// What has to be set for the transparent listeners of some settings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// For `nft -f -`. Replaces what was set before as one transaction.
    nft: String,
    /// Arguments of `ip` that route diverted packets to this machine.
    routes: Vec<Vec<String>>,
}

impl Rules {
    /// The rules for `config`.
    ///
    /// # Errors
    /// No listener is transparent, or one cannot be reached by netfilter.
    pub(crate) fn of(config: &Config) -> Result<Self, StartError> {
        let mut nat = String::new();
        let mut divert = String::new();
        let mut unserved = String::new();
        let mut families = [false; 2];
        let mut quic = false;
        for listen in &config.listen {
            let address = listen.address;
            let ports = set(listen.ports.iter());
            quic |= listen.ports.contains(&443);
            let matching = format!("{}tcp dport {ports} fib daddr type != local", from(config));
            if let Way::Redirect | Way::Tproxy { .. } = listen.way {
                let only = family(address).map_or("", |v4| only(v4));
                let _ = writeln!(unserved, "    {only}{matching} reject with tcp reset");
            }
            match listen.way {
                Way::Redirect => {
                    refuse_loopback(address)?;
                    let only = family(address).map_or("", |v4| only(v4));
                    // Writing to a `String` cannot fail.
                    let _ = writeln!(nat, "    {only}{matching} redirect to :{}", address.port());
                }
                Way::Tproxy { .. } => {
                    for v4 in [true, false] {
                        if family(address).is_none_or(|own| own == v4) {
                            families[usize::from(v4)] = true;
                            let to = destination(address, v4);
                            let _ = writeln!(
                                divert,
                                "    {}{matching} tproxy {} to {to} meta mark set {:#x} accept",
                                only(v4),
                                if v4 { "ip" } else { "ip6" },
                                config.firewall.mark
                            );
                        }
                    }
                }
                Way::Proxy | Way::Sni { .. } | Way::Socks5 | Way::Target(_) => {}
            }
        }
        if nat.is_empty() && divert.is_empty() {
            return Err(StartError::new(
                "no listener needs rules",
                "[[listen]]",
                "set one up with kind = \"redirect\" or kind = \"tproxy\"",
            ));
        }
        let quic = quic && config.firewall.reject_quic;
        Ok(Self {
            nft: script(config, &nat, &divert, &unserved, quic),
            routes: routes(&config.firewall, families),
        })
    }

    /// The rules as a shell script that sets them.
    pub(crate) fn shell(&self) -> String {
        let mut text = format!("nft -f - <<'END'\n{}END\n", self.nft);
        for route in &self.routes {
            let _ = writeln!(text, "ip {}", route.join(" "));
        }
        text
    }

    /// Sets the rules, in place of those set before.
    pub(crate) fn apply(&self) -> Result<(), StartError> {
        run("nft", &["-f".into(), "-".into()], &self.nft)?;
        for route in &self.routes {
            // A rule may be there any number of times: take away what a killed run has left.
            if route.iter().any(|word| word == "rule") {
                let _ = run("ip", &removal(route), "");
            }
            run("ip", route, "")?;
        }
        Ok(())
    }

    /// Removes the rules.
    pub(crate) fn remove(&self) -> Result<(), StartError> {
        for route in &self.routes {
            run("ip", &removal(route), "")?;
        }
        run("nft", &["delete".into(), "table".into(), "inet".into(), "meergate".into()], "")
    }
}

fn script(config: &Config, nat: &str, divert: &str, unserved: &str, quic: bool) -> String {
    // Added first, so that deleting it cannot fail.
    let mut text = format!("add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    let mut chain = |name: &str, hook: &str, rules: &str| {
        let _ = write!(text, "  chain {name} {{\n    type {hook}; policy accept;\n{rules}  }}\n");
    };
    if !nat.is_empty() {
        chain("redirected", "nat hook prerouting priority dstnat", nat);
    }
    if !divert.is_empty() {
        // Packets of connections that we have already, towards either side, spare the way below.
        let known = format!(
            "    meta l4proto tcp socket transparent 1 meta mark set {:#x} accept\n",
            config.firewall.mark
        );
        chain("diverted", "filter hook prerouting priority mangle", &(known + divert));
    }
    // Nothing that is taken comes here, unless nobody listens: TPROXY without a socket, when the gateway
    // was killed, leaves packets their way to the server.
    chain("unserved", "filter hook forward priority filter", unserved);
    if quic {
        let rule = format!("    {}udp dport 443 reject\n", from(config));
        chain("without_quic", "filter hook forward priority filter", &rule);
    }
    text.push_str("}\n");
    text
}

/// Diverted packets are routed to this machine, whatever their destination.
fn routes(firewall: &Firewall, families: [bool; 2]) -> Vec<Vec<String>> {
    let mark = format!("{:#x}", firewall.mark);
    let table = firewall.mark.to_string();
    let mut routes = Vec::new();
    for (v4, wanted) in [(false, families[0]), (true, families[1])] {
        if wanted {
            let family = if v4 { "-4" } else { "-6" };
            let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
            routes.push(words(&format!("{family} rule add fwmark {mark} lookup {table}")));
            routes
                .push(words(&format!("{family} route replace local default dev lo table {table}")));
        }
    }
    routes
}

fn removal(route: &[String]) -> Vec<String> {
    let undo = |word: &String| match word.as_str() {
        "add" | "replace" => "del".to_owned(),
        other => other.to_owned(),
    };
    route.iter().map(undo).collect()
}

/// What limits a rule to the clients' interfaces.
fn from(config: &Config) -> String {
    let interfaces = &config.firewall.interfaces;
    if interfaces.is_empty() {
        return String::new();
    }
    format!("iifname {} ", set(interfaces.iter().map(|name| format!("{name:?}"))))
}

fn set<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

/// Whether a listener takes IPv4 alone; `None` for both families.
fn family(address: SocketAddr) -> Option<bool> {
    match address {
        SocketAddr::V4(_) => Some(true),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => None,
        SocketAddr::V6(_) => Some(false),
    }
}

fn only(v4: bool) -> &'static str {
    if v4 { "meta nfproto ipv4 " } else { "meta nfproto ipv6 " }
}

fn destination(address: SocketAddr, v4: bool) -> String {
    if address.ip().is_unspecified() {
        return format!(":{}", address.port());
    }
    if v4 { address.to_string() } else { format!("[{}]:{}", address.ip(), address.port()) }
}

fn refuse_loopback(address: SocketAddr) -> Result<(), StartError> {
    if address.ip().is_loopback() {
        return Err(StartError::new(
            "netfilter does not redirect to loopback addresses",
            address.to_string(),
            "have this listener listen on [::] or on the address of the clients' network",
        ));
    }
    Ok(())
}

fn run(program: &str, arguments: &[String], input: &str) -> Result<(), StartError> {
    let fail = |what: String| {
        StartError::new(
            what,
            format!("{program} {}", arguments.join(" ")),
            "run as root (CAP_NET_ADMIN), with nftables and iproute2 installed",
        )
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fail(format!("cannot set firewall rules ({e})")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|e| fail(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| fail(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(fail(format!("cannot set firewall rules ({})", said.trim())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules, StartError> {
        Rules::of(&Config::from_toml(text, "m.toml").unwrap())
    }

    #[test]
    fn a_redirect_listener_takes_web_ports_of_its_interfaces() {
        let rules = rules(
            "[[listen]]\nkind = \"redirect\"\naddress = \"[::]:3129\"\n\
             [firewall]\ninterfaces = [\"lan0\", \"lan1\"]",
        )
        .unwrap();
        assert!(rules.nft.contains(
            "    iifname { \"lan0\", \"lan1\" } tcp dport { 80, 443 } fib daddr type != local \
             redirect to :3129\n"
        ));
        assert!(rules.nft.contains(
            "    iifname { \"lan0\", \"lan1\" } tcp dport { 80, 443 } fib daddr type != local \
             reject with tcp reset\n"
        ));
        assert!(rules.nft.contains("udp dport 443 reject"));
        assert!(rules.routes.is_empty());
    }

    #[test]
    fn a_tproxy_listener_needs_routes_of_its_family() {
        let rules =
            rules("[[listen]]\nkind = \"tproxy\"\naddress = \"127.0.0.1:3130\"\nports = [8443]\n")
                .unwrap();
        assert!(rules.nft.contains(
            "    meta nfproto ipv4 tcp dport { 8443 } fib daddr type != local \
             tproxy ip to 127.0.0.1:3130 meta mark set 0x6d67 accept\n"
        ));
        assert!(rules.nft.contains(
            "    meta nfproto ipv4 tcp dport { 8443 } fib daddr type != local reject with tcp reset\n"
        ));
        assert!(!rules.nft.contains("ip6"));
        assert!(!rules.nft.contains("udp"));
        assert_eq!(rules.routes.len(), 2);
        assert_eq!(removal(&rules.routes[0]).join(" "), "-4 rule del fwmark 0x6d67 lookup 28007");
    }

    #[test]
    fn what_netfilter_cannot_do_is_refused() {
        assert!(rules("").unwrap_err().to_string().contains("no listener"));
        let e = rules("[[listen]]\nkind = \"redirect\"\naddress = \"127.0.0.1:3129\"");
        assert!(e.unwrap_err().to_string().contains("loopback"));
    }
}
