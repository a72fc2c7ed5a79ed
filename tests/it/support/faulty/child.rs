//! A host in a process of its own, which can be stopped like one: this test binary, started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{self, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::server::Server;
use super::{Book, Manner, server};
use crate::support::eventually;

/// Where the child finds what it is told: its address and the time it takes, in milliseconds.
const ORDER: &str = "SMARTLINK_TEST_HOST";

/// The process of a host; killed when dropped.
pub struct Child {
    process: process::Child,
    reader: Option<JoinHandle<()>>,
}

impl Child {
    /// A host that listens there, behaves well, and keeps this book.
    pub(super) fn start(address: SocketAddr, manner: Manner, book: &Arc<Book>) -> Self {
        let Manner::Well(pause) = manner else {
            panic!("a child behaves well");
        };
        let mut process = Command::new(std::env::current_exe().expect("it runs"))
            .args(["--exact", "support::faulty::child::a_host_by_itself"])
            .args(["--ignored", "--nocapture", "--test-threads", "1"])
            .env(ORDER, format!("{address} {}", pause.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let listens = lines.find(|line| line.as_ref().is_ok_and(|line| line == "listens"));
        assert!(listens.is_some(), "it never listened");
        let book = Arc::clone(book);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(id) = line.strip_prefix("ran ") {
                    book.ran(id.parse().ok());
                }
            }
        });
        Self {
            process,
            reader: Some(reader),
        }
    }

    /// Sends it a signal.
    #[track_caller]
    pub(super) fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .args(["-s", name, &self.process.id().to_string()])
            .status();
        assert!(done.expect("kill runs").success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Over already where it broke, which its test has seen.
        let _over = self.process.kill();
        let _over = self.process.wait();
        // What it said before is in the book when it is gone.
        if let Some(reader) = self.reader.take() {
            let _ended = reader.join();
        }
    }
}

#[test]
#[ignore = "not a test: the host that other tests start as a process"]
fn a_host_by_itself() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let (address, pause) = order.split_once(' ').expect("two words");
    let pause = Duration::from_millis(pause.parse().expect("a number"));
    let address: SocketAddr = address.parse().expect("an address");
    let book = Arc::new(Book {
        tell: Some(|id| {
            let id = id.map_or(String::new(), |id| id.to_string());
            say(&format!("ran {id}"));
        }),
        ..Book::default()
    });
    let (_manner, receiver) = watch::channel(Manner::Well(pause));
    let server = Server::new(address, &book, receiver);
    let (_stop, stopped) = oneshot::channel();
    std::thread::spawn(|| server::run(vec![server], stopped));
    eventually("it listens", || TcpStream::connect(address).ok());
    say("\nlistens");
    // Whoever started us closes this end when it ends.
    let _read = std::io::stdin().read_to_end(&mut Vec::new());
    process::exit(0);
}

/// One line to whoever started us.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Without a reader there is nobody to tell.
    let _unread = writeln!(out, "{line}").and_then(|()| out.flush());
}
