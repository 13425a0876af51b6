//! Limits on how servers are asked: not too often at the same time, and not at all if they cannot be reached.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::hosts::MEMORY;
use crate::download::Url;

/// Browsers open as many connections to one server.
const MAX_AT_A_TIME: u32 = 6;
/// After this many failed connections in a row, a server is not asked again for a while.
const MAX_UNREACHED: u32 = 2;
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, Default)]
struct Server {
    busy: u32,
    unreached: u32,
    /// When it could not be reached the last time.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Servers {
    servers: Mutex<BTreeMap<(String, u16), Server>>,
    free: Condvar,
}

/// The right to ask one server. Dropping it gives it to somebody else.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    servers: &'a Servers,
    server: (String, u16),
}

impl Servers {
    /// Waits until one more may ask this server. `None` if the user wants to stop.
    pub(super) fn turn(&self, url: &Url, cancelled: &dyn Fn() -> bool) -> Option<Turn<'_>> {
        let server = (url.host().to_owned(), url.port());
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        while !cancelled() {
            let known = servers.entry(server.clone()).or_default();
            if known.busy < MAX_AT_A_TIME {
                known.busy += 1;
                return Some(Turn { servers: self, server });
            }
            servers = self.free.wait_timeout(servers, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// Whether the server could not be reached lately, so that asking is useless.
    pub(super) fn is_out_of_reach(&self, url: &Url, now: Instant) -> bool {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |server: &Server| server.since.is_some_and(|since| now.saturating_duration_since(since) < MEMORY);
        servers.get(&(url.host().to_owned(), url.port())).is_some_and(|server| server.unreached >= MAX_UNREACHED && lately(server))
    }
}

impl Turn<'_> {
    /// Notes whether the server could be reached.
    pub(super) fn reached(&self, reached: bool) {
        let mut servers = self.servers.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(self.server.clone()).or_default();
        (server.unreached, server.since) = if reached { (0, None) } else { (server.unreached + 1, Some(Instant::now())) };
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut servers = self.servers.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(self.server.clone()).or_default().busy -= 1;
        self.servers.free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_one_server() {
        let servers = Servers::default();
        let (one, two): (Url, Url) = ("http://a/x".parse().unwrap(), "http://b/x".parse().unwrap());
        let turns: Vec<_> = (0..MAX_AT_A_TIME).map(|_| servers.turn(&one, &|| false).unwrap()).collect();
        assert!(servers.turn(&one, &|| true).is_none());
        assert!(servers.turn(&two, &|| false).is_some());
        drop(turns);
        assert!(servers.turn(&one, &|| false).is_some());
    }

    #[test]
    fn who_is_out_of_reach_is_not_asked_again() {
        let servers = Servers::default();
        let url: Url = "http://a/x".parse().unwrap();
        let note = |reached| servers.turn(&url, &|| false).unwrap().reached(reached);
        for (reached, out) in [(false, false), (true, false), (false, false), (false, true), (true, false)] {
            note(reached);
            assert_eq!(servers.is_out_of_reach(&url, Instant::now()), out);
            assert!(!servers.is_out_of_reach(&url, Instant::now() + MEMORY));
        }
    }
}
