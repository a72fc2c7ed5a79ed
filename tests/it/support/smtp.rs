//! A mail server: speaks enough SMTP to take a mail, with a login and TLS where it is told so.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// When it speaks TLS.
#[derive(Clone)]
pub enum Tls {
    Never,
    /// When it is asked to.
    Start(Arc<ServerConfig>),
    /// From the first byte.
    Always(Arc<ServerConfig>),
}

/// A mail server on loopback.
pub struct Smtp {
    pub port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Smtp {
    pub fn start(tls: Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let said = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&said);
        // Ends with the process: it holds nothing but its port.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that breaks off leaves what it said.
                serve(stream, &tls, &theirs).ok();
            }
        });
        Self { port, said }
    }

    /// All lines that clients said, `(tls)` before those over TLS.
    pub fn said(&self) -> Vec<String> {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn serve(stream: TcpStream, tls: &Tls, said: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let wrap = |stream, config: &Arc<ServerConfig>| {
        let connection = ServerConnection::new(Arc::clone(config)).expect("a config");
        StreamOwned::new(connection, stream)
    };
    match tls {
        Tls::Always(config) => converse(wrap(stream, config), true, true, false, said).map(drop),
        Tls::Never => converse(stream, true, false, false, said).map(drop),
        Tls::Start(config) => match converse(stream, true, false, true, said)? {
            Some(stream) => converse(wrap(stream, config), false, true, false, said).map(drop),
            None => Ok(()),
        },
    }
}

/// Speaks to the end, or returns the stream where TLS is to start.
fn converse<S: Read + Write>(
    stream: S,
    greets: bool,
    secret: bool,
    offers: bool,
    said: &Mutex<Vec<String>>,
) -> std::io::Result<Option<S>> {
    let mut reader = BufReader::new(stream);
    let say = |reader: &mut BufReader<S>, line: &str| {
        reader
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())?;
        reader.get_mut().flush()
    };
    if greets {
        say(&mut reader, "220 here ESMTP")?;
    }
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        let mark = if secret { "(tls) " } else { "" };
        said.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{mark}{line}"));
        if in_data {
            if line == "." {
                in_data = false;
                say(&mut reader, "250 2.0.0 queued as 7")?;
            }
            continue;
        }
        match line.split(' ').next().unwrap_or_default() {
            "EHLO" if offers => say(&mut reader, "250-here\r\n250 STARTTLS")?,
            "EHLO" => say(
                &mut reader,
                "250-here\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
            )?,
            "STARTTLS" => {
                say(&mut reader, "220 go ahead")?;
                return Ok(Some(reader.into_inner()));
            }
            "AUTH" => say(&mut reader, "235 welcome")?,
            "DATA" => {
                in_data = true;
                say(&mut reader, "354 go on")?;
            }
            "QUIT" => {
                say(&mut reader, "221 bye")?;
                return Ok(None);
            }
            _ => say(&mut reader, "250 fine")?,
        }
    }
}
