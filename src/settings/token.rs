//! Flags of `token`: creating, listing and revoking.

use clap::{Args, Subcommand};

use super::Redis;

/// Flags of `token`.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub action: TokenAction,
}

/// What is to be done about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a new token and print it, this once: Redis keeps its hash only
    Create(Box<CreateToken>),
    /// Print what tokens there are: names, first digits of their hashes, services, times
    List(ListTokens),
    /// Delete a token: from then on it opens nothing
    Revoke(RevokeToken),
}

impl TokenAction {
    pub(super) fn redis(&mut self) -> &mut Redis {
        match self {
            Self::Create(create) => &mut create.redis,
            Self::List(list) => &mut list.redis,
            Self::Revoke(revoke) => &mut revoke.redis,
        }
    }
}

/// Flags of `token create`: the fields of its hash, as the manual explains them.
#[derive(Debug, Args)]
pub struct CreateToken {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// What logs call its bearer; another token of the same name is the same caller
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// The services it opens: names, patterns such as ner-*, or *; commas between
    #[arg(long, value_name = "LIST")]
    pub services: String,
    /// When it ends: 2027-01-31, or 2027-01-31T18:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// When it begins [default: now]
    #[arg(long, value_name = "TIME")]
    pub not_before: Option<String>,
    /// The most requests, such as 100/s [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,
    /// The most of them at once after a pause [default: one second's worth]
    #[arg(long, value_name = "N")]
    pub burst: Option<String>,
    /// The most requests in flight [default: no limit]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<String>,
    /// Where it may be used from: addresses or CIDRs, commas between [default: everywhere]
    #[arg(long, value_name = "CIDRS")]
    pub allow_ip: Option<String>,
    /// Let its bearer choose a version by the header x-smartlink-version
    #[arg(long)]
    pub may_choose: bool,
    /// Print one JSON object instead of the token alone
    #[arg(long)]
    pub json: bool,
}

/// Flags of `token list`.
#[derive(Debug, Args)]
pub struct ListTokens {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Print one JSON list instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `token revoke`.
#[derive(Debug, Args)]
pub struct RevokeToken {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Its name, or at least 8 of the first digits of its hash
    #[arg(value_name = "NAME or DIGITS")]
    pub which: String,
    /// Every token of that name, where there are several
    #[arg(long)]
    pub all: bool,
}
