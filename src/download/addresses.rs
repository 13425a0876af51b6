//! Which servers may be asked. An address in an ebuild may lead to this machine's printer daemon, a router, or a cloud's metadata
//! service. A server may also redirect there.
//!
//! We check the address that we connect to, after the name was looked up, for the first request and for each redirect. So a name that
//! leads elsewhere at the second look-up does not get through. A proxy looks names up by itself; then we can refuse only what the name
//! itself shows.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};

use super::url::Url;

/// Which servers may be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Addresses {
    /// All of them: whoever named them may decide that.
    #[default]
    Any,
    /// Servers on the public Internet, and these (host and port) that the user configured.
    Public(BTreeSet<(String, u16)>),
}

impl Addresses {
    /// Public ones, and the servers of `configured`.
    pub fn public_and<'a>(configured: impl IntoIterator<Item = &'a Url>) -> Self {
        Self::Public(configured.into_iter().map(|url| (plain(url.host()), url.port())).collect())
    }

    /// Whether `url` may be asked at `address`.
    pub(super) fn admit(&self, url: &Url, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Public(configured) => is_public(address) || configured.contains(&(plain(url.host()), url.port())),
        }
    }

    /// Whether `url` may be asked through a proxy, as far as its name tells. The error is where it leads.
    pub(super) fn admit_unresolved(&self, url: &Url) -> Result<(), IpAddr> {
        let host = plain(url.host());
        let refused = |address: IpAddr| if self.admit(url, address) { Ok(()) } else { Err(address) };
        let is_local = |name: &str| name == "localhost" || name.ends_with(".localhost");
        if is_local(&host) {
            return refused(Ipv4Addr::LOCALHOST.into());
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return refused(address);
        }
        // `127.1`, `0x7f000001`, `2130706433`: the C library takes these for addresses and asks no name server.
        let last = host.rsplit('.').next().unwrap_or_default();
        if last.starts_with(|first: char| first.is_ascii_digit()) {
            let found = (host.as_str(), url.port()).to_socket_addrs().ok().and_then(|mut all| all.next());
            return refused(found.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip()));
        }
        Ok(())
    }
}

/// A host's name for comparisons: without the brackets of an IPv6 address, without a dot at the end, lower case.
fn plain(host: &str) -> String {
    host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

/// Whether an address is on the public Internet. Private ranges (RFC 1918, RFC 4193, RFC 6598) are not.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By IANA's registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4-compatible, IPv4-mapped and IPv4-translated addresses, NAT64 and 6to4 contain an IPv4 address. That one decides.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            v4(high, low)
        }
        [0x2002, high, low, ..] => v4(high, low),
        // Teredo, benchmarking and documentation lie inside of the global range, but are not global.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast. Link-local, unique local, multicast, local NAT64 (64:ff9b:1::/48) and others lie outside of it.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_public() {
        let public = "1.1.1.1 8.8.8.8 100.63.0.1 100.128.0.1 172.15.0.1 172.32.0.1 192.167.0.1 192.0.1.1 198.20.0.1 223.255.255.255 2606:4700::1 \
                      2001:470::1 2a00::1 ::ffff:1.1.1.1 64:ff9b::8.8.8.8 2002:101:101::1";
        let other = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.0.9 169.254.169.254 172.16.0.1 172.31.255.1 192.168.0.1 192.0.0.1 \
                     192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 \
                     ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1::1 2002:a00:1::1 2001::1 \
                     2001:db8::1 3fff::1 fe80::1 fec0::1 fc00::1 fd12::1 ff02::1 100::1";
        for address in public.split_whitespace() {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in other.split_whitespace() {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_configured_server_is_a_host_with_its_port() {
        let configured: Url = "http://Mirror.local:8080/gentoo".parse().unwrap();
        let addresses = Addresses::public_and([&configured]);
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let table = [
            ("http://mirror.local:8080/other", true),
            ("http://mirror.local.:8080/", true),
            ("http://mirror.local/", false),
            ("http://mirror.local:631/", false),
            ("http://a.mirror.local:8080/", false),
            ("https://mirror.local/", false),
        ];
        for (url, expected) in table {
            assert_eq!(addresses.admit(&url.parse().unwrap(), loopback), expected, "{url}");
            assert!(addresses.admit(&url.parse().unwrap(), Ipv4Addr::new(1, 1, 1, 1).into()));
            assert!(Addresses::Any.admit(&url.parse().unwrap(), loopback));
        }
    }

    #[test]
    fn what_a_name_tells_to_those_who_do_not_look_it_up() {
        let addresses = Addresses::public_and([&"http://10.0.0.7:3128/".parse().unwrap()]);
        for url in
            ["http://gentoo.org/", "http://1.1.1.1/", "http://10.0.0.7:3128/x", "http://localhost.org/", "http://[2606:4700::1]/"]
        {
            assert!(addresses.admit_unresolved(&url.parse().unwrap()).is_ok(), "{url}");
        }
        let refused = "localhost LOCALHOST. a.localhost 127.0.0.1 127.1 2130706433 0x7f.1 0177.0.0.1 10.0.0.7 [::1] [::ffff:127.0.0.1] 0 169.254.169.254";
        for host in refused.split_whitespace() {
            assert!(addresses.admit_unresolved(&format!("http://{host}/").parse().unwrap()).is_err(), "{host}");
        }
    }
}
