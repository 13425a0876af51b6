//! Proxies, from the variables `http_proxy`, `https_proxy` and `no_proxy`.

use std::net::IpAddr;

use super::url::Url;

/// Which proxies are used, and for which servers none is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` addresses: `http://proxy:3128`, with `user:password@` if need be.
    pub http: Option<String>,
    /// For `https` addresses, through `CONNECT`.
    pub https: Option<String>,
    /// Hosts that are asked without a proxy, separated by commas or blanks: names (which include all names below them), addresses,
    /// networks (`10.0.0.0/8`), or `*`.
    pub none: String,
}

impl Proxies {
    /// The proxy for an address, if there is one.
    pub(super) fn of(&self, url: &Url) -> Option<&str> {
        let proxy = if url.is_https() { &self.https } else { &self.http };
        proxy.as_deref().filter(|proxy| !proxy.is_empty() && !self.excepts(url))
    }

    /// The variables for other programs, with their values.
    pub fn variables(&self) -> Vec<(String, String)> {
        let pairs = [("http_proxy", self.http.as_deref()), ("https_proxy", self.https.as_deref()), ("no_proxy", Some(&*self.none))];
        let set = pairs.into_iter().filter_map(|(name, value)| value.filter(|value| !value.is_empty()).map(|value| (name, value)));
        set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn excepts(&self, url: &Url) -> bool {
        let host = url.host().trim_matches(['[', ']']).to_ascii_lowercase();
        self.none.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
            let entry = entry.to_ascii_lowercase();
            if entry == "*" {
                return true;
            }
            if let Ok(address) = host.parse::<IpAddr>() {
                return in_network(address, &entry);
            }
            let (name, port) = match entry.rsplit_once(':') {
                Some((name, port)) => (name, port.parse::<u16>().ok()),
                None => (entry.as_str(), None),
            };
            let name = name.trim_start_matches('*').trim_start_matches('.');
            let below = host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            !name.is_empty() && below && port.is_none_or(|port| port == url.port())
        })
    }
}

/// Whether `address` is `entry`, or in it if that is a network.
fn in_network(address: IpAddr, entry: &str) -> bool {
    let (base, bits) = match entry.split_once('/') {
        Some((base, bits)) => (base, bits.parse::<u32>().ok()),
        None => (entry, Some(128)),
    };
    let (Ok(base), Some(bits)) = (base.trim_matches(['[', ']']).parse::<IpAddr>(), bits) else { return false };
    let differ = match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(u32::from(a) ^ u32::from(b)) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(a) ^ u128::from(b),
        _ => return false,
    };
    differ.leading_zeros() >= bits || differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks() {
        let proxies = Proxies {
            http: Some("http://plain:1".into()),
            https: Some("http://tunnel:2".into()),
            none: "localhost, .example.org  mirror.net:8080,10.0.0.0/8,[::1]".into(),
        };
        let table = [
            ("http://gentoo.org/", Some("http://plain:1")),
            ("https://gentoo.org/", Some("http://tunnel:2")),
            ("http://localhost:80/", None),
            ("http://EXAMPLE.org/", None),
            ("http://a.example.org/", None),
            ("http://anexample.org/", Some("http://plain:1")),
            ("http://mirror.net:8080/", None),
            ("http://mirror.net/", Some("http://plain:1")),
            ("http://10.1.2.3/", None),
            ("http://11.1.2.3/", Some("http://plain:1")),
            ("https://[::1]/", None),
        ];
        for (url, expected) in table {
            assert_eq!(proxies.of(&url.parse().unwrap()), expected, "{url}");
        }
        assert_eq!(Proxies { none: "*".into(), ..proxies }.of(&"http://gentoo.org/".parse().unwrap()), None);
    }

    #[test]
    fn what_other_programs_are_told() {
        let proxies = Proxies { http: Some("http://plain:1".into()), https: Some(String::new()), none: "a".into() };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(proxies.variables(), [pair("http_proxy", "http://plain:1"), pair("no_proxy", "a")]);
    }
}
