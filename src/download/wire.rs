//! Connections, made with `ureq`. There is one agent for each way to reach servers.
//!
//! ```text
//! direct     us ── server
//! forward    us ── proxy ── server      http: the proxy gets requests with the whole address (RFC 9112, section 3.2.2), since many
//!                                       refuse CONNECT to other ports than 443, which is all that `ureq` would do
//! tunnel     us ══ proxy ══ server      https: CONNECT
//! ```
//!
//! Below TLS is a layer of our own ([`Watched`]). It waits in short slices, so that it notices a silent server and the user's Ctrl-C
//! while a read blocks.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};
use ureq::{Agent, Error, Proxy, ProxyProtocol, Timeout};

use super::addresses::Addresses;
use super::error::Cause;
use super::url::Url;
use super::{Cancelled, Settings};

/// So many connections to a server are kept.
const MOST_CONNECTIONS: usize = 32;
/// What a server with slow storage does with an upload in a second.
const DIGESTED_PER_SEC: u64 = 4 << 20;
/// How long a single wait is.
const SLICE: Duration = Duration::from_millis(100);
/// The head of an answer must be complete after this many stall times.
const HEAD_STALLS: u32 = 2;

/// A way to servers. The text is the proxy's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Route {
    Direct { tls: bool },
    Forward(String),
    Tunnel(String),
}

/// The agents. Each is made when it is first needed.
pub(super) struct Wires {
    settings: Settings,
    cancelled: Cancelled,
    agents: Mutex<BTreeMap<Route, Agent>>,
    roots: OnceLock<RootCerts>,
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wires").finish_non_exhaustive()
    }
}

impl Wires {
    pub(super) fn new(settings: &Settings, cancelled: &Cancelled) -> Self {
        Self {
            settings: settings.clone(),
            cancelled: Cancelled::clone(cancelled),
            agents: Mutex::default(),
            roots: OnceLock::new(),
        }
    }

    /// In what time the head of an answer must be complete, after a question with so many bytes.
    pub(super) fn head_timeout(&self, sent: u64) -> Duration {
        self.settings.stall_timeout * HEAD_STALLS + digesting(sent)
    }

    /// How long a server may be silent.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.settings.stall_timeout
    }

    /// Whether the user wants to stop.
    pub(super) fn cancelled(&self) -> bool {
        (self.cancelled)()
    }

    /// The same, to take along.
    pub(super) fn cancelled_by(&self) -> &Cancelled {
        &self.cancelled
    }

    /// Closes all connections, under whoever waits at one.
    pub(super) fn shut_down(&self) {
        let agents = std::mem::take(&mut *self.agents.lock().unwrap_or_else(PoisonError::into_inner));
        agents.into_values().for_each(Agent::shutdown);
    }

    /// The agent for `url`.
    pub(super) fn agent(&self, url: &Url) -> Result<Agent, Cause> {
        let proxy = self.settings.proxies.of(url);
        if proxy.is_some() {
            let refused = |address| Cause::Address { host: url.host().to_owned(), address };
            self.settings.addresses.admit_unresolved(url).map_err(refused)?;
        }
        let route = match proxy {
            None => Route::Direct { tls: url.is_https() },
            Some(proxy) if url.is_https() => Route::Tunnel(proxy.to_owned()),
            Some(proxy) => Route::Forward(proxy.to_owned()),
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&route) {
            return Ok(agent.clone());
        }
        let agent = self.make(&route)?;
        agents.insert(route, agent.clone());
        Ok(agent)
    }

    fn make(&self, route: &Route) -> Result<Agent, Cause> {
        let settings = &self.settings;
        let tls = !matches!(route, Route::Direct { tls: false } | Route::Forward(_));
        let proxy = match route {
            Route::Direct { .. } => None,
            Route::Forward(text) | Route::Tunnel(text) => Some(proxy(text)?),
        };
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("gentoomuch/", env!("CARGO_PKG_VERSION")))
            // We want the file's bytes as they are, since digests are of those.
            .accept_encoding("identity")
            // A registry is asked for a thousand tags by many threads. The default keeps three connections.
            .max_idle_connections(2 * MOST_CONNECTIONS)
            .max_idle_connections_per_host(MOST_CONNECTIONS)
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_recv_response(Some(self.head_timeout(0)))
            .proxy(None);
        if tls {
            config = config.tls_config(TlsConfig::builder().root_certs(self.roots()?).build());
        }
        let mut watch = Watch { stall: settings.stall_timeout, cancelled: Cancelled::clone(&self.cancelled), forward: None };
        let mut resolver = Lookup::Server(settings.addresses.clone());
        match (route, proxy) {
            (Route::Tunnel(_), proxy) => {
                config = config.proxy(proxy);
                // `ureq` looks the proxy's name up here, not the server's. The proxy may be anywhere.
                resolver = Lookup::Server(Addresses::Any);
            }
            (Route::Forward(_), Some(proxy)) => {
                if proxy.protocol() != ProxyProtocol::Http {
                    let reason = "for `http` addresses only an `http://` proxy is supported".to_owned();
                    return Err(Cause::Proxy { proxy: shown(&proxy), reason });
                }
                watch.forward = Some(authorization(&proxy));
                resolver = Lookup::Proxy(proxy.uri().clone());
            }
            _ => {}
        }
        let chain =
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(watch)
                .chain(RustlsConnector::default());
        Ok(Agent::with_parts(config.build(), chain, resolver))
    }

    /// The certificate authorities. They are read before the first `https` address is asked.
    fn roots(&self) -> Result<RootCerts, Cause> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let mut certificates: Vec<Certificate<'static>> = Vec::new();
        for path in &self.settings.authorities {
            let unreadable = |reason: String| Cause::Authorities { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
            let before = certificates.len();
            for item in parse_pem(&pem) {
                if let PemItem::Certificate(certificate) = item.map_err(|error| unreadable(error.to_string()))? {
                    certificates.push(certificate);
                }
            }
            if certificates.len() == before {
                return Err(unreadable("no certificate in it".to_owned()));
            }
        }
        if certificates.is_empty() {
            return Err(Cause::NoAuthorities);
        }
        Ok(self.roots.get_or_init(|| RootCerts::from(certificates)).clone())
    }

    /// What an error of `ureq` means.
    pub(super) fn cause(&self, url: &Url, error: Error, got: u64, total: Option<u64>) -> Cause {
        use std::io::ErrorKind;
        if self.cancelled() {
            return Cause::Interrupted;
        }
        if let Error::Io(error) = &error
            && let Some(Refused(address)) = error.get_ref().and_then(|error| error.downcast_ref())
        {
            return Cause::Address { host: url.host().to_owned(), address: *address };
        }
        match error {
            Error::HostNotFound => Cause::Unknown,
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                Cause::ConnectTimeout { secs: self.settings.connect_timeout.as_secs() }
            }
            Error::Timeout(_) => Cause::Stalled { secs: self.settings.stall_timeout.as_secs(), got },
            // `std` has the same kind of error for a name that does not exist and for a name server that does not answer. Only the text
            // differs.
            Error::Io(error) if error.to_string().contains("Name or service not known") => Cause::Unknown,
            Error::Io(error) if error.kind() == ErrorKind::InvalidData && url.is_https() => Cause::Tls(error.to_string()),
            Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => match total {
                Some(total) => Cause::Cut { got, total },
                None => Cause::Connection(error),
            },
            Error::Io(error) => Cause::Connection(error),
            Error::Rustls(error) => Cause::Tls(error.to_string()),
            Error::Tls(text) => Cause::Tls(text.to_owned()),
            Error::ConnectProxyFailed(reason) => {
                let proxy = self.settings.proxies.of(url).and_then(|text| proxy(text).ok());
                Cause::Proxy { proxy: proxy.as_ref().map(shown).unwrap_or_default(), reason }
            }
            other => Cause::Protocol(other.to_string()),
        }
    }
}

/// A registry reads all of a large blob once more, or copies it to where it stays, before it says that it has it.
fn digesting(bytes: u64) -> Duration {
    Duration::from_secs(bytes / DIGESTED_PER_SEC)
}

fn proxy(text: &str) -> Result<Proxy, Cause> {
    // The part before `@` may be a password, which must not be shown.
    let without = text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned();
    Proxy::new(text).map_err(|_| Cause::Proxy { proxy: without, reason: "not the address of one".to_owned() })
}

/// The proxy's address without user and password.
fn shown(proxy: &Proxy) -> String {
    format!("{}:{}", proxy.host(), proxy.port())
}

/// The header that tells a proxy who asks. Empty if the proxy's address has no user.
fn authorization(proxy: &Proxy) -> String {
    match proxy.username() {
        None => String::new(),
        Some(user) => {
            let pair = format!("{user}:{}", proxy.password().unwrap_or_default());
            format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair))
        }
    }
}

/// Which name is looked up.
#[derive(Debug)]
enum Lookup {
    /// The server's. It must lead to an address that may be asked.
    Server(Addresses),
    /// The forwarding proxy's. The server's name may be unknown here.
    Proxy(Uri),
}

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        // It asks in a thread of its own, and panics if it gets none.
        crate::threads::spare("look up a server's address with").map_err(|error| Error::Io(error.into()))?;
        let resolver = DefaultResolver::default();
        let addresses = match self {
            Self::Proxy(proxy) => return resolver.resolve(proxy, config, timeout),
            Self::Server(addresses) => addresses,
        };
        let found = resolver.resolve(uri, config, timeout)?;
        let Ok(url) = uri.to_string().parse::<Url>() else { return Ok(found) };
        let mut admitted = self.empty();
        for address in found.iter().filter(|address| addresses.admit(&url, address.ip())) {
            admitted.push(*address);
        }
        match found.first() {
            Some(first) if admitted.is_empty() => Err(Error::Io(std::io::Error::other(Refused(first.ip())))),
            _ => Ok(admitted),
        }
    }
}

/// An address that may not be asked. It travels through `ureq` as an I/O error.
#[derive(Debug, thiserror::Error)]
#[error("{0} may not be asked")]
struct Refused(IpAddr);

/// Puts a [`Watched`] around each connection.
struct Watch {
    stall: Duration,
    cancelled: Cancelled,
    /// For a forwarding proxy: the header with the password.
    forward: Option<String>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("stall", &self.stall).finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for Watch {
    type Out = Watched<In>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Watched<In>>, Error> {
        let forward = self.forward.as_ref().map(|authorization| {
            let origin = details.uri.authority().map(|authority| format!("http://{authority}")).unwrap_or_default();
            Forward { origin, authorization: authorization.clone(), head_is_due: true }
        });
        Ok(chained.map(|inner| Watched {
            inner,
            sent: 0,
            stall: self.stall,
            cancelled: Cancelled::clone(&self.cancelled),
            forward,
        }))
    }
}

/// What requests begin with.
const METHODS: [&[u8]; 6] = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"];

/// What a forwarding proxy needs in a request.
#[derive(Debug)]
struct Forward {
    origin: String,
    authorization: String,
    /// What is sent next is the head of a request, and not its body.
    head_is_due: bool,
}

/// A connection on which no wait is endless.
struct Watched<T> {
    inner: T,
    /// Since something came.
    sent: u64,
    stall: Duration,
    cancelled: Cancelled,
    forward: Option<Forward>,
}

impl<T: fmt::Debug> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<T: Transport> Watched<T> {
    /// Rewrites the head of a request for a proxy. `ureq` writes the head in one piece, so it is complete here.
    fn for_proxy(&mut self, amount: usize) -> usize {
        let Some(forward) = self.forward.as_mut().filter(|forward| forward.head_is_due) else { return amount };
        forward.head_is_due = false;
        let output = self.inner.buffers().output();
        let method =
            METHODS.iter().find(|method| output[..amount].starts_with(method) && output[method.len()..].starts_with(b" /"));
        let Some(method) = method else { return amount };
        let rest = &output[method.len() + 2..amount];
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return amount };
        let (line, headers) = rest.split_at(end + 2);
        let head =
            [method, b" ".as_slice(), forward.origin.as_bytes(), b"/", line, forward.authorization.as_bytes(), headers].concat();
        if head.len() > output.len() {
            return amount;
        }
        output[..head.len()].copy_from_slice(&head);
        head.len()
    }
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, mut timeout: NextTimeout) -> Result<(), Error> {
        let amount = self.for_proxy(amount);
        self.sent += amount as u64;
        timeout.per_write = Some(self.stall.into());
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let (since, silence) = (Instant::now(), self.stall + digesting(self.sent));
        if let Some(forward) = &mut self.forward {
            forward.head_is_due = true;
        }
        loop {
            if (self.cancelled)() {
                return Err(Error::Io(std::io::Error::other("interrupted")));
            }
            let mut slice = timeout;
            slice.after = (*timeout.after).min(SLICE).into();
            match self.inner.await_input(slice) {
                Err(Error::Timeout(_)) if since.elapsed() >= *timeout.after => return Err(Error::Timeout(timeout.reason)),
                Err(Error::Timeout(_)) if since.elapsed() >= silence => return Err(Error::Timeout(Timeout::PerRead)),
                Err(Error::Timeout(_)) => {}
                other => {
                    self.sent = 0;
                    return other;
                }
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
