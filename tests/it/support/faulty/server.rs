//! The server behind a host: HTTP/1.1, and every fault it can be told to have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::hole::Hole;
use super::{Book, Manner};
use crate::support::port;
use crate::support::wire::{self, Head};

/// A connection that served and then is without a byte for so long is quiet.
const QUIET: Duration = Duration::from_millis(30);
/// Between two pieces of a stream.
const BEAT: Duration = Duration::from_millis(20);

/// A server that has not begun.
pub struct Server {
    address: SocketAddr,
    /// Open already: whoever is told of a host may connect at once.
    listener: Option<std::net::TcpListener>,
    desk: Desk,
}

/// What every connection of a server shares.
#[derive(Clone)]
struct Desk {
    book: Arc<Book>,
    manner: watch::Receiver<Manner>,
    turn: Arc<AtomicUsize>,
}

impl Server {
    pub fn new(address: SocketAddr, book: &Arc<Book>, manner: watch::Receiver<Manner>) -> Self {
        let desk = Desk {
            book: Arc::clone(book),
            manner,
            turn: Arc::default(),
        };
        let gone = *desk.manner.borrow() == Manner::Gone;
        Self {
            address,
            listener: (!gone).then(|| port::listen_at(address)),
            desk,
        }
    }

    async fn listen(mut self) {
        loop {
            let manner = *self.desk.manner.borrow_and_update();
            let over = match manner {
                Manner::Gone => self.desk.manner.changed().await.is_err(),
                _ => self.accept().await.is_err(),
            };
            if over {
                return;
            }
        }
    }

    /// Accepts until it is gone, or over.
    async fn accept(&mut self) -> Result<(), watch::error::RecvError> {
        let listener = self.listener.take();
        let listener = listener.unwrap_or_else(|| port::listen_at(self.address));
        listener.set_nonblocking(true).expect("it is open");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        loop {
            let manner = *self.desk.manner.borrow_and_update();
            match manner {
                Manner::Gone => return Ok(()),
                Manner::Unreachable => {
                    let hole = Hole::dig(&listener).await;
                    while *self.desk.manner.borrow_and_update() == Manner::Unreachable {
                        self.desk.manner.changed().await?;
                    }
                    hole.fill_in(&listener);
                }
                _ => tokio::select! {
                    changed = self.desk.manner.changed() => changed?,
                    accepted = listener.accept() => {
                        let (stream, _from) = accepted.expect("descriptors are left");
                        stream.set_nodelay(true).expect("it is open");
                        tokio::spawn(self.desk.clone().converse(stream));
                    }
                },
            }
        }
    }
}

/// Runs servers until told to stop.
pub fn run(servers: Vec<Server>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for server in servers {
            tokio::spawn(server.listen());
        }
        drop(stopped.await);
    });
}

/// A request as far as a host reads it.
struct Request {
    /// The id of a POST: what must not run twice.
    id: Option<u64>,
    /// How many pieces of a stream are wanted; 0: a short answer.
    beats: u32,
}

/// How a request is answered.
enum Reply {
    Good,
    Bad,
    Cut,
}

/// One more request that is being answered, for as long as this lives.
struct Busy<'b>(&'b Book);

impl<'b> Busy<'b> {
    fn new(book: &'b Book) -> Self {
        let busy = book.busy.fetch_add(1, Ordering::SeqCst) + 1;
        book.peak.fetch_max(busy, Ordering::SeqCst);
        Self(book)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Desk {
    async fn converse(mut self, mut stream: TcpStream) {
        let (mut buffer, mut served) = (Vec::new(), false);
        while let Some(request) = self.read(&mut stream, &mut buffer, served).await {
            if self.serve(&mut stream, &request).await.is_none() {
                return;
            }
            served = true;
        }
    }

    /// The next whole request; `None` where the connection is to end.
    async fn read(
        &mut self,
        stream: &mut TcpStream,
        buffer: &mut Vec<u8>,
        served: bool,
    ) -> Option<Request> {
        loop {
            let manner = *self.manner.borrow_and_update();
            match manner {
                Manner::Gone => return None,
                Manner::Unreachable => {
                    self.manner.changed().await.ok()?;
                    continue;
                }
                _ => {}
            }
            if let Some(request) = take_request(buffer) {
                return Some(request);
            }
            let quiet = manner == Manner::ResetsQuiet && served && buffer.is_empty();
            tokio::select! {
                biased;
                changed = self.manner.changed() => changed.ok()?,
                read = stream.read_buf(buffer) => {
                    if read.unwrap_or_default() == 0 {
                        return None;
                    }
                }
                () = sleep(QUIET), if quiet => {
                    // A request that came in this moment is not idleness.
                    if stream.try_read_buf(buffer).is_err() {
                        reset(stream);
                        return None;
                    }
                }
            }
        }
    }

    /// Answers; `None` where the connection is to end.
    async fn serve(&mut self, stream: &mut TcpStream, request: &Request) -> Option<()> {
        let book = Arc::clone(&self.book);
        let busy = Busy::new(&book);
        self.book.ran(request.id);
        let manner = *self.manner.borrow();
        let (pause, reply) = match manner {
            Manner::Well(pause) => (pause, Reply::Good),
            Manner::Fails(pause) => (pause, Reply::Bad),
            Manner::FailsHalf(pause) => match self.turn.fetch_add(1, Ordering::SeqCst) % 2 {
                0 => (pause, Reply::Bad),
                _ => (pause, Reply::Good),
            },
            Manner::ResetsMidway => (Duration::ZERO, Reply::Cut),
            _ => (Duration::ZERO, Reply::Good),
        };
        let begun = Instant::now();
        wait_until(&mut self.manner, begun + pause).await?;
        match reply {
            Reply::Good if request.beats > 0 => {
                let head = self.head("200 OK", "transfer-encoding: chunked");
                stream.write_all(head.as_bytes()).await.ok()?;
                for beat in 1..=request.beats {
                    wait_until(&mut self.manner, begun + pause + BEAT * beat).await?;
                    stream.write_all(b"5\r\nbeat \r\n").await.ok()?;
                }
                stream.write_all(b"0\r\n\r\n").await.ok()?;
            }
            Reply::Good => {
                let answer = self.head("200 OK", "content-length: 4") + "good";
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
            Reply::Bad => {
                let answer = self.head("500 Internal Server Error", "content-length: 3") + "bad";
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
            Reply::Cut => {
                let answer = self.head("200 OK", "content-length: 4") + "go";
                stream.write_all(answer.as_bytes()).await.ok()?;
                // The gateway is to see the beginning.
                sleep(Duration::from_millis(1)).await;
                reset(stream);
                return None;
            }
        }
        drop(busy);
        Some(())
    }

    fn head(&self, status: &str, framing: &str) -> String {
        let number = self.book.number;
        format!("HTTP/1.1 {status}\r\nx-host: {number}\r\n{framing}\r\n\r\n")
    }
}

/// Waits for that moment, and longer while the host cannot be reached; `None` where it is gone.
async fn wait_until(manner: &mut watch::Receiver<Manner>, moment: Instant) -> Option<()> {
    loop {
        let now = *manner.borrow_and_update();
        match now {
            Manner::Gone => return None,
            Manner::Unreachable => manner.changed().await.ok()?,
            _ => tokio::select! {
                changed = manner.changed() => changed.ok()?,
                () = sleep_until(moment) => return Some(()),
            },
        }
    }
}

/// Makes the end of this connection a reset.
fn reset(stream: &TcpStream) {
    let linger = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    linger.expect("it is open");
}

/// Takes one whole request off the buffer.
fn take_request(buffer: &mut Vec<u8>) -> Option<Request> {
    let end = wire::find(buffer, b"\r\n\r\n")? + 4;
    let head = Head::parse(std::str::from_utf8(buffer.get(..end)?).expect("text"));
    assert!(head.value("transfer-encoding").is_none(), "{head:?}");
    let number = |name| head.value(name).map(|text| text.parse().expect("a number"));
    let length = number("content-length").unwrap_or(0);
    let whole = end + usize::try_from(length).expect("small");
    if buffer.len() < whole {
        return None;
    }
    buffer.drain(..whole);
    let beats = number("x-beats").unwrap_or(0);
    Some(Request {
        id: number("x-id").filter(|_| head.start.starts_with("POST ")),
        beats: u32::try_from(beats).expect("few"),
    })
}
