//! What stands here where the program was built without Kafka: doors that say so.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::marker::PhantomData;

use tokio::sync::mpsc;

use super::{Error, Fetched, Marks, Membership, Message, Move, Refused, Report};

/// There is none.
#[derive(Debug)]
pub struct Producer<T>(Infallible, PhantomData<T>);

/// There is none.
#[derive(Debug)]
pub struct Consumer(Infallible);

impl<T> Producer<T> {
    /// Always `NotBuiltIn`.
    pub fn start(_servers: &str) -> Result<(Self, mpsc::UnboundedReceiver<Report<T>>), Error> {
        Err(Error::NotBuiltIn)
    }

    /// Never called.
    pub fn send(&self, _message: Message<'_>, _ticket: T) -> Result<(), (Refused, T)> {
        match self.0 {}
    }

    /// Never called.
    pub fn give_up(&self) {
        match self.0 {}
    }
}

impl Consumer {
    /// Always `NotBuiltIn`.
    pub fn join(_membership: &Membership) -> Result<Self, Error> {
        Err(Error::NotBuiltIn)
    }

    /// Never called.
    pub fn moved(&mut self) -> Option<Move> {
        match self.0 {}
    }

    /// Never called.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        match self.0 {}
    }

    /// Never called.
    pub fn begin(&mut self, _starts: &BTreeMap<i32, i64>) -> Result<(), Error> {
        match self.0 {}
    }

    /// Never called.
    pub fn fetch(&mut self) -> Option<Result<Fetched, Error>> {
        match self.0 {}
    }

    /// Never called.
    pub fn marks(&self) -> std::future::Ready<Result<Marks, Error>> {
        match self.0 {}
    }

    /// Never called.
    pub fn show(&self, _lows: &BTreeMap<i32, i64>) {
        match self.0 {}
    }

    /// Never called.
    #[expect(clippy::unused_async, reason = "the other one waits")]
    pub async fn leave(self) {
        match self.0 {}
    }
}
