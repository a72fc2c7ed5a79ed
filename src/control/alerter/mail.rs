//! Mail over SMTP: STARTTLS, or TLS from the first byte.
//!
//! Invariant: a password never goes over a connection without TLS, except to this machine.

use std::net::IpAddr;
use std::time::Duration;

use lettre::address::Address;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use crate::control::chain;
use crate::model::value::MailServer;
use crate::policy::alert::Message;

/// How long one step of the dialogue may take.
const STEP: Duration = Duration::from_secs(10);

/// Hands a message in; what the server answered, or why it did not take it.
pub(super) async fn send(
    server: &MailServer,
    to: &[Box<str>],
    password: Option<String>,
    message: &Message,
) -> Result<String, String> {
    let mail = mail(server, to, message)?;
    let transport = transport(server, password)?;
    let answer = transport.send(mail).await;
    let answer = answer.map_err(|error| chain(&error))?;
    let said: Vec<&str> = answer.message().collect();
    Ok(format!("{} {}", answer.code(), said.join(" ")))
}

fn transport(
    server: &MailServer,
    password: Option<String>,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let parameters = || TlsParameters::new(server.host.to_string()).map_err(|e| chain(&e));
    let tls = if server.tls {
        Tls::Wrapper(parameters()?)
    } else if password.is_none() || is_here(&server.host) {
        Tls::Opportunistic(parameters()?)
    } else {
        Tls::Required(parameters()?)
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&*server.host)
        .port(server.port)
        .timeout(Some(STEP))
        .tls(tls);
    if let (Some(user), Some(password)) = (&server.user, password) {
        builder = builder.credentials(Credentials::new(user.to_string(), password));
    }
    Ok(builder.build())
}

fn mail(server: &MailServer, to: &[Box<str>], message: &Message) -> Result<Mail, String> {
    let mut mail = Mail::builder()
        .from(Mailbox::new(Some("smartlink".to_owned()), sender(server)?))
        .subject(message.title())
        .header(ContentType::TEXT_PLAIN);
    for address in to {
        let address: Address = address.parse().map_err(|_bad| "a bad address in to")?;
        mail = mail.to(Mailbox::new(None, address));
    }
    let body = message.lines().join("\n");
    mail.body(body).map_err(|error| chain(&error))
}

/// The user where it is an address, else the user at the server.
fn sender(server: &MailServer) -> Result<Address, String> {
    let user = server.user.as_deref().unwrap_or("smartlink");
    let sender = if user.contains('@') {
        user.to_owned()
    } else {
        let host = &server.host;
        let host = if host.parse::<IpAddr>().is_ok() {
            "localhost"
        } else {
            host
        };
        format!("{user}@{host}")
    };
    let refused = |_bad| "the user in url makes no address to send from".to_owned();
    sender.parse().map_err(refused)
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
