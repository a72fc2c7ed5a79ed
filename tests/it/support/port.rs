//! Ports that nobody else is given while a test needs them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// A port of its own, where connections are refused until somebody listens.
pub struct Port {
    address: SocketAddr,
    /// Bound for as long as this lives, and never listening.
    _reserved: Socket,
}

impl Port {
    /// A free one on loopback.
    pub fn reserve() -> Self {
        let reserved = reusing(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = reserved.local_addr().expect("it is bound");
        Self {
            address: address.as_socket().expect("an address of TCP"),
            _reserved: reserved,
        }
    }

    /// As `reserve`, with a number of at most `highest`.
    pub fn reserve_below(highest: u16) -> Self {
        loop {
            let port = Self::reserve();
            if port.number() <= highest {
                return port;
            }
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// The URL of an endpoint on it.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Opens it.
    pub fn listen(&self) -> TcpListener {
        listen_at(self.address)
    }
}

/// Listens at a reserved address.
pub fn listen_at(address: SocketAddr) -> TcpListener {
    let socket = reusing(address);
    socket.listen(1024).expect("nobody else listens");
    socket.into()
}

/// A socket bound there, beside others that do not listen.
fn reusing(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("it is new");
    socket.bind(&address.into()).expect("a free port");
    socket
}
