//! One finished request.

use super::histogram;
use crate::model::count::{Counts, STATUS_MIN, Scalar};

/// Why a request ended without a whole answer of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection could be made, or not in time.
    Connect,
    /// A clock of the service ran out.
    Timeout,
    /// The upstream closed or reset, also in the middle of its answer.
    Reset,
    /// It broke the protocol, or there was no endpoint to ask.
    Other,
}

/// Why the gateway turned a request away before a version was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No or a bad credential, or a forbidden address: 401 and 403.
    Auth,
    /// Too many a second: 429.
    Rate,
    /// Too many at once: 429 by `concurrency`, 503 `overloaded`.
    Busy,
}

/// How one request ended: each request makes one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the answer; 499 where the client left, also after another one's head.
    pub status: u16,
    /// What failed, where something did.
    pub error: Option<ErrorKind>,
    /// Why it was turned away, where it was.
    pub rejection: Option<Rejection>,
    /// Attempts after the first.
    pub retries: u32,
    /// Bytes of the request's body that were taken.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were given.
    pub bytes_out: u64,
    /// From the head of the request to the end of the answer, in microseconds.
    pub total_us: u64,
    /// From the head of the request to the head of the upstream's answer, in microseconds.
    pub first_byte_us: Option<u64>,
}

impl Outcome {
    /// Whether it counts as an error of the version: something failed, or the answer is a 5xx. A
    /// client that left is none.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.error.is_some() || (500..600).contains(&self.status)
    }

    pub(super) fn add_to(&self, counts: &Counts) {
        let add = |which, more| counts.scalar(which).add(more);
        add(Scalar::Requests, 1);
        counts
            .statuses
            .add(usize::from(self.status).saturating_sub(STATUS_MIN));
        counts.latency.add(histogram::bucket(self.total_us));
        add(Scalar::Latency, self.total_us);
        add(Scalar::BytesIn, self.bytes_in);
        add(Scalar::BytesOut, self.bytes_out);
        if let Some(first_byte_us) = self.first_byte_us {
            add(Scalar::FirstByte, first_byte_us);
        }
        if self.retries > 0 {
            add(Scalar::Retries, self.retries.into());
        }
        if self.is_failure() {
            add(Scalar::Failed, 1);
        }
        if let Some(error) = self.error {
            let which = match error {
                ErrorKind::Connect => Scalar::ErrorConnect,
                ErrorKind::Timeout => Scalar::ErrorTimeout,
                ErrorKind::Reset => Scalar::ErrorReset,
                ErrorKind::Other => Scalar::ErrorOther,
            };
            add(which, 1);
        }
        if let Some(rejection) = self.rejection {
            let which = match rejection {
                Rejection::Auth => Scalar::RejectedAuth,
                Rejection::Rate => Scalar::RejectedRate,
                Rejection::Busy => Scalar::RejectedBusy,
            };
            add(which, 1);
        }
    }
}
