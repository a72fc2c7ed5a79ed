//! Why the gateway, or its control plane alone, cannot start.

use crate::control::watcher::NameHeld;
use crate::worker::BadKey;
use crate::{admin, proxy, store};

/// Why the control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No thread or no runtime.
    #[error("cannot start the control plane")]
    Runtime(#[source] std::io::Error),
    /// Redis can never be reached so.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The admin port cannot be opened.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// The data plane cannot start.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// The mirror cannot show its key to models.
    #[error(transparent)]
    ScorerKey(#[from] BadKey),
    /// The name is taken.
    #[error(transparent)]
    Name(#[from] NameHeld),
    /// The access log cannot be opened.
    #[error("cannot open the access log")]
    AccessLog(#[source] std::io::Error),
    /// No thread sends spans.
    #[error("cannot send spans")]
    Spans(#[source] std::io::Error),
    /// The thread ended before it said anything.
    #[error("the control plane ended at its start")]
    Ended,
}
