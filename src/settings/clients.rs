//! Flags about clients and their connections at the public port.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::{Refusal, flag};

/// What clients may do, and who may speak for them.
#[derive(Clone, Debug, Args)]
pub struct Clients {
    /// How long a request head may take to arrive
    #[arg(long, env = "SMARTLINK_HEADER_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = flag::duration)]
    pub header_timeout: Duration,
    /// How long a kept connection may be quiet between requests
    #[arg(long, env = "SMARTLINK_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = flag::duration)]
    pub idle_timeout: Duration,
    /// The largest request head, and the largest trailer section
    #[arg(long, env = "SMARTLINK_MAX_HEAD", value_name = "SIZE", default_value = "64KiB", value_parser = flag::head_size)]
    pub max_head: usize,
    /// The most header lines of a request, and trailer lines
    #[arg(long, env = "SMARTLINK_MAX_HEADERS", value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(10..=1000))]
    pub max_headers: u16,
    /// Memory that all bodies of the named entry hold together until their service is known
    #[arg(long, env = "SMARTLINK_ENTRY_BUFFER", value_name = "SIZE", default_value = "128MiB", value_parser = flag::size)]
    pub entry_buffer: u64,
    /// Proxies that are believed about who their clients are: addresses or CIDRs, commas between [default: none]
    #[arg(long, env = "SMARTLINK_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',', value_parser = flag::network)]
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections begin with a header of the PROXY protocol; then only trusted proxies may
    /// connect
    #[arg(
        long,
        env = "SMARTLINK_PROXY_PROTOCOL",
        value_name = "VERSION",
        default_value = "off"
    )]
    pub proxy_protocol: ProxyProtocol,
}

/// Which versions of the PROXY protocol are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyProtocol {
    /// Connections begin with HTTP
    Off,
    /// The line of text
    V1,
    /// The binary header
    V2,
    /// Either
    Any,
}

impl Clients {
    /// The defaults.
    pub(super) const USUAL: Self = Self {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        max_head: 64 << 10,
        max_headers: 100,
        entry_buffer: 128 << 20,
        trusted_proxies: Vec::new(),
        proxy_protocol: ProxyProtocol::Off,
    };

    /// Refuses what can never work.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.proxy_protocol != ProxyProtocol::Off && self.trusted_proxies.is_empty() {
            return Err(Refusal::Wrong(
                "--proxy-protocol lets only --trusted-proxies connect: name them".to_owned(),
            ));
        }
        Ok(())
    }
}
