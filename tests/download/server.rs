//! A server that answers as a test says.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// As in the request line.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    /// How many came before it.
    pub(crate) number: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Of `Range: bytes=N-` N.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What `Content-Length` says, if not the truth.
    pub(crate) length: Option<usize>,
    /// So much of the body is sent, and then?
    pub(crate) sent: Option<(usize, Then)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Cut,
    Stall,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), length: None, sent: None }
    }

    pub(crate) fn whole(body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::status(200) }.with("ETag", "\"one\"")
    }

    /// What a server with ranges says.
    pub(crate) fn ranged(asked: &Asked, body: &[u8]) -> Self {
        let same = asked.header("if-range").is_none_or(|tag| tag == "\"one\"");
        match asked.from().filter(|_| same) {
            None => Self::whole(body),
            Some(from) if from >= body.len() => Self::status(416).with("Content-Range", &format!("bytes */{}", body.len())),
            Some(from) => Self { body: body[from..].to_vec(), ..Self::status(206) }
                .with("ETag", "\"one\"")
                .with("Content-Range", &format!("bytes {from}-{}/{}", body.len() - 1, body.len())),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn only(mut self, bytes: usize, then: Then) -> Self {
        self.sent = Some((bytes, then));
        self
    }
}

/// Serves until the process ends.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let (asked, answer) = (Arc::clone(&server.asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                std::thread::spawn(move || drop(converse(stream.unwrap(), &asked, &*answer)));
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn converse(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let mut headers = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let asked = {
            let mut log = log.lock().unwrap();
            let asked = Asked { target, headers, number: log.len() };
            log.push(asked.clone());
            asked
        };
        let answer = answer(&asked);
        let length = answer.length.unwrap_or(answer.body.len());
        let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {length}\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        writer.write_all(format!("{head}\r\n").as_bytes())?;
        match answer.sent {
            None => writer.write_all(&answer.body)?,
            Some((bytes, then)) => {
                writer.write_all(&answer.body[..bytes])?;
                if then == Then::Stall {
                    // Until the other side hangs up: nothing else ends it.
                    while let Some(Ok(_)) = lines.next() {}
                }
                return Ok(());
            }
        }
        if answer.length.is_some() {
            return Ok(());
        }
    }
    Ok(())
}
