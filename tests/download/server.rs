//! A server that answers as a test says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// As in the request line.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which of its connections it came over.
    pub(crate) connection: usize,
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

/// Of a question's body, how much is read before the connection is cut, or silent.
type Patience = dyn Fn(&Asked) -> Option<(usize, Then)> + Send + Sync;

/// Serves until the process ends.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::impatient(|_| None, answer)
    }

    /// One that does not read all bodies to their end.
    pub(crate) fn impatient(
        patience: impl Fn(&Asked) -> Option<(usize, Then)> + Send + Sync + 'static,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let (asked, answer, patience) = (Arc::clone(&server.asked), Arc::new(answer), Arc::new(patience));
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (asked, answer, patience) = (Arc::clone(&asked), Arc::clone(&answer), Arc::clone(&patience));
                std::thread::spawn(move || drop(converse(stream.unwrap(), connection, &asked, &*patience, &*answer)));
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

/// A question but for its body; `None` at the end.
fn question(reader: &mut BufReader<TcpStream>, connection: usize) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    Ok(Some(Asked { method, target, headers, body: Vec::new(), connection, number: 0 }))
}

fn converse(
    stream: TcpStream,
    connection: usize,
    log: &Mutex<Vec<Asked>>,
    patience: &Patience,
    answer: &dyn Fn(&Asked) -> Answer,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(mut asked) = question(&mut reader, connection)? {
        let length: usize = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
        let until = patience(&asked);
        asked.body = vec![0; until.map_or(length, |(bytes, _)| bytes.min(length))];
        reader.read_exact(&mut asked.body)?;
        {
            let mut log = log.lock().unwrap();
            asked.number = log.len();
            log.push(asked.clone());
        }
        if let Some((_, then)) = until {
            // What came is kept, as a registry keeps it.
            drop(answer(&asked));
            if then == Then::Stall {
                // Unread bytes fill the socket. The other side ends it.
                while !matches!(writer.peek(&mut [0]), Ok(0) | Err(_)) {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
            return Ok(());
        }
        let answer = answer(&asked);
        let length = answer.length.unwrap_or(answer.body.len());
        let mut head = format!("HTTP/1.1 {} x\r\nContent-Length: {length}\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        writer.write_all(format!("{head}\r\n").as_bytes())?;
        match answer.sent {
            None if asked.method == "HEAD" => {}
            None => writer.write_all(&answer.body)?,
            Some((bytes, then)) => {
                writer.write_all(&answer.body[..bytes])?;
                if then == Then::Stall {
                    // Until the other side hangs up: nothing else ends it.
                    drop(reader.read(&mut [0]));
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
