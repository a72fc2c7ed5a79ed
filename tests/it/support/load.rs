//! Steady load over kept connections, and the tally of how every request ended.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::upstream::Upstream;
use super::{eventually, secs};

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text, its coding taken off.
    pub body: String,
}

impl Answer {
    /// The value of a header, empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        let line = self.headers.iter().find(|(known, _)| known == name);
        line.map_or("", |(_, value)| value)
    }

    /// The code of an answer that the gateway made.
    pub fn code(&self) -> &str {
        self.header("x-smartlink-error")
    }

    /// Whether the gateway closes the connection behind it.
    pub fn closes(&self) -> bool {
        self.header("connection") == "close"
    }
}

/// A POST to the named entry for this service.
pub fn named(service: &str) -> Vec<u8> {
    let body = format!(r#"{{"server_name": "{service}", "params": {{}}, "data": [1, 2, 3]}}"#);
    let length = body.len();
    format!("POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}").into()
}

/// A GET of this path.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").into()
}

/// An upstream that answers every request with this text, and how many it answered.
pub fn serving(text: &str) -> (Upstream, Arc<AtomicUsize>) {
    let hits: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&hits);
    let length = text.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
    let upstream = Upstream::start(move |connection| {
        while let Some(head) = connection.read_head() {
            if connection.read_body(&head).is_none() {
                break;
            }
            count.fetch_add(1, Ordering::SeqCst);
            connection.send(&answer);
        }
    });
    (upstream, hits)
}

/// One kept connection.
pub struct Caller {
    stream: BufReader<TcpStream>,
}

impl Caller {
    /// Connects.
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(secs(20)))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and reads its whole answer.
    pub fn ask(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        self.send(request)?;
        self.read()
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one whole answer.
    pub fn read(&mut self) -> std::io::Result<Answer> {
        let first = self.line()?;
        let status = first.get(9..12).and_then(|digits| digits.parse().ok());
        let mut answer = Answer {
            status: status.ok_or_else(|| Error::new(ErrorKind::InvalidData, first.clone()))?,
            ..Answer::default()
        };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            let line = (name.to_ascii_lowercase(), value.trim().to_owned());
            answer.headers.push(line);
        }
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == "chunked" {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(Error::other)?;
                self.take(size, &mut body)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            let length = answer.header("content-length").parse().unwrap_or(0);
            self.take(length, &mut body)?;
        }
        answer.body = String::from_utf8(body).map_err(Error::other)?;
        Ok(answer)
    }

    /// Whether the gateway closed; waits for it.
    pub fn is_closed(&mut self) -> bool {
        !matches!(self.stream.fill_buf(), Ok(bytes) if !bytes.is_empty())
    }

    fn take(&mut self, size: usize, body: &mut Vec<u8>) -> std::io::Result<()> {
        let took = (&mut self.stream).take(size as u64).read_to_end(body)?;
        if took < size {
            return Err(Error::new(ErrorKind::UnexpectedEof, "in the body"));
        }
        Ok(())
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(Error::new(
                ErrorKind::UnexpectedEof,
                format!("after {line:?}"),
            )),
        }
    }
}

/// How the requests of a load ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that were sent.
    pub requests: usize,
    /// What went wrong, for the first few.
    pub failures: Vec<String>,
    /// The longest that anyone waited for an answer.
    pub slowest: Duration,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
    }
}

type Judge = dyn Fn(&Answer) -> Result<(), String> + Send + Sync;

/// What a caller does when an answer says `close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Connects again.
    Again,
    /// Ends.
    End,
}

/// Callers that ask without pause until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// How many requests of each caller were answered.
    asked: Vec<Arc<AtomicUsize>>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// One caller for each of these requests, over one kept connection each; every answer must
    /// please the judge. A connection whose answer says `close` is made anew.
    pub fn start(
        address: SocketAddr,
        requests: Vec<Vec<u8>>,
        judge: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(address, requests, Closed::Again, judge)
    }

    /// The same, with a choice.
    pub fn start_with(
        address: SocketAddr,
        requests: Vec<Vec<u8>>,
        closed: Closed,
        judge: impl Fn(&Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let judge: Arc<Judge> = Arc::new(judge);
        let stop = Arc::default();
        let asked: Vec<Arc<AtomicUsize>> = requests.iter().map(|_| Arc::default()).collect();
        let callers = requests.into_iter().zip(asked.clone());
        let threads = callers.map(|(request, asked)| {
            let (stop, judge) = (Arc::clone(&stop), Arc::clone(&judge));
            std::thread::spawn(move || hammer(address, &request, closed, &stop, &asked, &*judge))
        });
        Self {
            threads: threads.collect(),
            stop,
            asked,
        }
    }

    /// How many requests were answered so far.
    pub fn asked(&self) -> usize {
        self.turns().iter().sum()
    }

    fn turns(&self) -> Vec<usize> {
        let turns = self.asked.iter();
        turns.map(|turns| turns.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every caller was answered a request that it sent after this moment.
    #[track_caller]
    pub fn await_turn(&self) {
        let before = self.turns();
        eventually("every caller is answered", || {
            let now = self.turns();
            let mut both = before.iter().zip(&now);
            both.all(|(before, now)| *now > before + 1).then_some(())
        });
    }

    /// Waits until so many more requests were answered.
    #[track_caller]
    pub fn await_more(&self, more: usize) {
        let wanted = self.asked() + more;
        eventually("load goes on", || (self.asked() >= wanted).then_some(()));
    }

    /// Ends it.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until the callers end by themselves, which they do when nobody accepts any more.
    pub fn wait(self) -> Tally {
        let mut all = Tally::default();
        for thread in self.threads {
            all.add(thread.join().expect("no panic"));
        }
        all
    }

    /// Ends it; every request must have pleased the judge.
    #[track_caller]
    pub fn expect_all_good(self) -> Tally {
        let tally = self.stop();
        assert_eq!(tally.failures, [""; 0], "of {}", tally.requests);
        assert!(tally.requests > 100, "{tally:?}");
        tally
    }
}

/// The most failures one caller writes down.
const FAILURES_MAX: usize = 5;

fn hammer(
    address: SocketAddr,
    request: &[u8],
    closed: Closed,
    stop: &AtomicBool,
    asked: &AtomicUsize,
    judge: &Judge,
) -> Tally {
    let mut tally = Tally::default();
    let mut kept = None;
    while !stop.load(Ordering::Relaxed) && tally.failures.len() < FAILURES_MAX {
        let mut caller = match kept.take().map_or_else(|| Caller::connect(address), Ok) {
            Ok(caller) => caller,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            Err(error) => {
                tally.failures.push(format!("connect: {error}"));
                continue;
            }
        };
        let begin = Instant::now();
        tally.requests += 1;
        match caller.ask(request) {
            Ok(answer) => {
                if let Err(why) = judge(&answer) {
                    tally.failures.push(format!("{why}: {answer:?}"));
                }
                if !answer.closes() {
                    kept = Some(caller);
                } else if closed == Closed::End {
                    break;
                }
            }
            Err(error) => tally.failures.push(format!("no answer: {error:?}")),
        }
        tally.slowest = tally.slowest.max(begin.elapsed());
        asked.fetch_add(1, Ordering::Relaxed);
    }
    tally
}
