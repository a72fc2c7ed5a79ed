//! Listening sockets, and the threads that accept on them.
//!
//! Each thread has sockets of its own for the same addresses (`SO_REUSEPORT`): the kernel deals
//! connections out, and no thread ever waits for another.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::connection;
use super::state::State;
use super::worker::Worker;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4_096;
/// The most connections one thread holds; more wait in the kernel.
const CONNECTIONS_MAX: usize = 250_000;
/// How often each thread looks at its connections.
const SWEEP_EVERY: Duration = Duration::from_millis(50);
/// How long a quiet peer may be before the kernel asks whether it is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// Opens `count` sockets for one address. Port 0 takes a free one, the same for all.
pub(super) fn open(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    if address.port() != 0 {
        // Another process of the same user could share the port unnoticed: this one would fail.
        socket(address)?.bind(&address.into())?;
    }
    let mut address = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = StdListener::from(socket);
        address = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok(sockets)
}

/// What accepted sockets inherit is set here, once.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    prepare(&socket)?;
    Ok(socket)
}

fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Copies of a socket that somebody else opened for us: all threads accept on the same one.
pub(super) fn share(inherited: &StdListener, count: usize) -> io::Result<Vec<StdListener>> {
    inherited.set_nonblocking(true)?;
    // A socket of another kind (Unix) has no such options; it serves all the same.
    let _kept_as_it_is = prepare(&Socket::from(inherited.try_clone()?));
    (0..count).map(|_| inherited.try_clone()).collect()
}

/// Keeps newcomers away from a socket of ours, for which they are told nothing yet: they ask again
/// a second later, when the socket is closed or another process listens. Who is already on the way
/// in is let in, so that the close loses nobody. Never for an inherited socket: it lives on.
#[cfg(target_os = "linux")]
pub(super) fn turn_away(socket: &StdListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};
    // Classic BPF over the TCP header: load byte 13 (the flags); SYN set: drop; else pass.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Elsewhere the few who come in the last moment are lost.
#[cfg(not(target_os = "linux"))]
pub(super) fn turn_away(_socket: &StdListener) -> io::Result<()> {
    Ok(())
}

/// One thread's life: accept, sweep, drain.
pub(super) async fn run(
    worker: Rc<Worker>,
    sockets: Vec<StdListener>,
    mut stop: watch::Receiver<bool>,
    drain_timeout: Duration,
) {
    let mut accepting = Vec::new();
    for socket in sockets {
        match TcpListener::from_std(socket) {
            Ok(listener) => accepting.push(Rc::new(listener)),
            Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
        }
    }
    let tasks: Vec<_> = accepting
        .iter()
        .map(|listener| {
            tokio::task::spawn_local(accept_all(Rc::clone(&worker), Rc::clone(listener)))
        })
        .collect();
    let sweeper = tokio::task::spawn_local(unconstrained(sweep(Rc::clone(&worker))));
    // The sender lives as long as the process serves: an error means stop as well.
    let _stopped = stop.wait_for(|stop| *stop).await;
    for task in tasks {
        task.abort();
        // It held the listener until now.
        let _aborted = task.await;
    }
    worker.drain();
    for listener in accepting.into_iter().filter_map(Rc::into_inner) {
        empty_queue(&worker, listener);
    }
    let deadline = Instant::now() + drain_timeout;
    while worker.connections() > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(10)).await;
    }
    worker.cut_tunnels();
    sweeper.abort();
}

async fn sweep(worker: Rc<Worker>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.sweep();
    }
}

async fn accept_all(worker: Rc<Worker>, listener: Rc<TcpListener>) {
    loop {
        if worker.connections() >= CONNECTIONS_MAX {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, peer)) => begin(&worker, stream, peer),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections now");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Takes what the kernel already accepted, so that closing the socket loses nobody. Asked without
/// the runtime, which would stop after its share of work or before it heard of the last ones.
fn empty_queue(worker: &Rc<Worker>, listener: TcpListener) {
    let Ok(socket) = listener.into_std() else {
        return;
    };
    loop {
        match socket.accept() {
            Ok((stream, peer)) => {
                let ready = stream
                    .set_nonblocking(true)
                    .and_then(|()| TcpStream::from_std(stream));
                match ready {
                    Ok(stream) => begin(worker, stream, peer),
                    Err(error) => tracing::warn!(%error, "an accepted connection cannot be used"),
                }
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(_empty) => return,
        }
    }
}

fn begin(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let state = Rc::new(State::new(stream, peer, Rc::clone(worker)));
    let number = worker.remember(&state);
    worker.meters.accepted.add(1);
    let place = Place {
        worker: Rc::clone(worker),
        number,
    };
    tokio::task::spawn_local(async move {
        connection::serve(state).await;
        drop(place);
    });
}

/// A connection's place in the sweep, given up however its task ends.
struct Place {
    worker: Rc<Worker>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.forget(self.number);
        self.worker.meters.closed.add(1);
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
