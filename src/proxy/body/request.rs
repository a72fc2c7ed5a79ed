//! A request's body on its way up: here as a whole, or forwarded while it arrives.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Cut;
use crate::policy::scan::Scanner;
use crate::proxy::entry;
use crate::proxy::error::Error;
use crate::proxy::framing::Violation;
use crate::proxy::state::State;
use crate::proxy::worker::Held;

/// What became of a request's body, seen from the task that waits for the answer.
#[derive(Debug)]
pub(in crate::proxy) struct Fate {
    /// Why it was cut.
    pub(in crate::proxy) error: RefCell<Option<Error>>,
    /// When the upstream last took a part of it.
    pub(in crate::proxy) progress: Cell<Instant>,
    /// All of it was handed over.
    pub(in crate::proxy) done: Cell<bool>,
}

impl Fate {
    pub(in crate::proxy) fn new(done: bool) -> Rc<Self> {
        Rc::new(Self {
            error: RefCell::new(None),
            progress: Cell::new(Instant::now()),
            done: Cell::new(done),
        })
    }
}

/// A request's body on its way to an upstream.
#[derive(Default)]
pub(in crate::proxy) enum SendBody {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Box<Stream>),
}

/// A body that is forwarded while it arrives.
pub(in crate::proxy) struct Stream {
    /// Read before the upstream was known.
    pub(in crate::proxy) ahead: VecDeque<Bytes>,
    /// The room these take of the entry's buffer.
    pub(in crate::proxy) held: Vec<Held>,
    pub(in crate::proxy) incoming: Incoming,
    /// Named entry: goes on checking that this is one JSON object with one `server_name`.
    pub(in crate::proxy) scanner: Option<Box<Scanner>>,
    /// The setting that bounds it, and its value.
    pub(in crate::proxy) bound: Option<(&'static str, u64)>,
    /// Bytes that arrived, those ahead included.
    pub(in crate::proxy) seen: u64,
    /// Nothing was taken of it yet: it can be sent from its beginning.
    pub(in crate::proxy) untouched: bool,
    pub(in crate::proxy) fate: Rc<Fate>,
    pub(in crate::proxy) state: Rc<State>,
}

impl Stream {
    fn cut(&self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.fate.error.borrow_mut().get_or_insert(error);
        Poll::Ready(Some(Err(Cut)))
    }

    /// Checks the next bytes; `last` when none follow.
    fn check(&mut self, data: &[u8], last: bool) -> Result<(), Error> {
        self.seen += data.len() as u64;
        self.state.record.took(self.seen);
        if let Some((setting, bound)) = self.bound
            && self.seen > bound
        {
            return Err(Error::BodyTooLarge(setting, bound));
        }
        if let Some(scanner) = &mut self.scanner {
            scanner.feed(data).map_err(entry::refuse)?;
            if last {
                scanner.finish().map_err(entry::refuse)?;
            }
        }
        Ok(())
    }
}

/// Why reading a client's body failed: a doubt about framing, or the client left.
pub(in crate::proxy) fn read_failure(state: &State) -> Error {
    match state.violation.get() {
        Some(Violation::Malformed(why)) => Error::BadRequest(why),
        Some(Violation::TooLarge(bound)) => Error::HeadTooLarge(bound),
        None => Error::ClientGone,
    }
}

impl SendBody {
    /// What becomes of it, where it is not here as a whole.
    pub(in crate::proxy) fn fate(&self) -> Option<Rc<Fate>> {
        match self {
            Self::Empty | Self::Full(_) => None,
            Self::Stream(stream) => Some(Rc::clone(&stream.fate)),
        }
    }
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let stream = match this {
            Self::Empty => return Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Self::Stream(stream) => stream,
        };
        if let Some(bytes) = stream.ahead.pop_front() {
            stream.untouched = false;
            stream.fate.progress.set(Instant::now());
            if stream.ahead.is_empty() {
                stream.held.clear();
            }
            stream.state.record.sent(&bytes);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let frame = ready!(Pin::new(&mut stream.incoming).poll_frame(cx));
        stream.untouched = false;
        stream.fate.progress.set(Instant::now());
        match frame {
            Some(Ok(frame)) => {
                let last = stream.incoming.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    let data = data.clone();
                    if let Err(error) = stream.check(&data, last) {
                        return stream.cut(error);
                    }
                    stream.state.record.sent(&data);
                }
                stream.fate.done.set(last);
                if last {
                    stream.state.record.sent_all(&stream.state.worker);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                let why = read_failure(&stream.state);
                stream.cut(why)
            }
            None => {
                if !stream.fate.done.replace(true)
                    && let Err(error) = stream.check(&[], true)
                {
                    return stream.cut(error);
                }
                stream.state.record.sent_all(&stream.state.worker);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(stream) => {
                stream.ahead.is_empty() && stream.incoming.is_end_stream() && stream.fate.done.get()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => match stream.incoming.size_hint().exact() {
                Some(left) => SizeHint::with_exact(
                    left + stream.ahead.iter().map(|b| b.len() as u64).sum::<u64>(),
                ),
                None => SizeHint::default(),
            },
        }
    }
}
