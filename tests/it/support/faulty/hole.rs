//! A port that swallows connections: as if the network dropped every packet of a handshake.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Connections that may wait to be accepted, while a host is reachable.
const QUEUE: i32 = 1024;
/// A connection to loopback that takes this long is not being made.
const SILENCE: Duration = Duration::from_millis(100);

/// What keeps a listener's queue full.
pub struct Hole {
    _fillers: Vec<TcpStream>,
}

impl Hole {
    /// Fills the queue of this listener, from which nobody may accept: what comes then is dropped
    /// by the kernel, without rights and without a firewall.
    pub async fn dig(listener: &TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        SockRef::from(listener).listen(0).expect("it listens");
        let mut fillers = Vec::new();
        while let Some(filler) = connect(address).await {
            fillers.push(filler);
        }
        Self { _fillers: fillers }
    }

    /// Lets connections be made again.
    pub fn fill_in(self, listener: &TcpListener) {
        SockRef::from(listener).listen(QUEUE).expect("it listens");
        drop(self);
    }
}

async fn connect(address: SocketAddr) -> Option<TcpStream> {
    timeout(SILENCE, TcpStream::connect(address))
        .await
        .ok()?
        .ok()
}
