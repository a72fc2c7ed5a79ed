//! `/metrics` for Prometheus: the table in force and the books of the recorder, the same numbers as
//! Redis is told.
//!
//! A page is written piece by piece, as fast as it is read, on a thread for what takes long, one
//! page at a time. Invariant: neither a request nor a background task ever waits for a page.

mod facts;
mod families;
mod page;
mod process;
pub(super) mod worker;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use self::facts::{Facts, Sources};
use self::families::{ALL, Tell};
use self::page::Page;
use crate::control::prober::Board;
use crate::control::recorder::Reader;
use crate::control::status::Status;
use crate::model::table::Table;
use crate::stats::Meters;
use crate::telemetry::metrics::told_to;
use crate::worker::Board as Lanes;

/// What the format is called.
pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";
/// About as much is written at once.
const PIECE: usize = 64 * 1024;
/// How long a page may take, written and read: others wait for their turn.
const PAGE_TIME: Duration = Duration::from_secs(20);

/// What pages are made of.
#[derive(Debug)]
pub(super) struct Metrics {
    table: Arc<ArcSwap<Table>>,
    status: Arc<Status>,
    board: Board,
    meters: Arc<Meters>,
    reader: Reader,
    lanes: Lanes,
    turn: Arc<Semaphore>,
    started: f64,
}

impl Metrics {
    /// Of this process, which starts about now.
    pub(super) fn new(
        table: Arc<ArcSwap<Table>>,
        status: Arc<Status>,
        board: Board,
        meters: Arc<Meters>,
        reader: Reader,
        lanes: Lanes,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            table,
            status,
            board,
            meters,
            reader,
            lanes,
            turn: Arc::new(Semaphore::new(1)),
            started: started.map_or(0.0, |it| it.as_secs_f64()),
        }
    }

    /// A page, which is written while it is read; `None` where the gateway is about to end.
    pub(super) async fn page(&self) -> Option<Pieces> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        let books = self.reader.read().await?;
        let sources = Sources {
            table: self.table.load_full(),
            status: Arc::clone(&self.status),
            board: self.board.clone(),
            meters: Arc::clone(&self.meters),
            started: self.started,
            lanes: self.lanes.borrow().clone(),
        };
        let (pieces, rest) = mpsc::channel(1);
        tokio::spawn(async move {
            let gathered = spawn_blocking(|| Writer::new(Facts::gather(sources, books)));
            if let Ok(writer) = gathered.await {
                write(writer, pieces, PAGE_TIME).await;
            }
            drop(turn);
        });
        Some(Pieces(rest))
    }
}

/// Writes a page to its end, unless that takes longer than `most` or nobody reads it.
async fn write(mut writer: Writer, pieces: mpsc::Sender<Option<Bytes>>, most: Duration) {
    let end = Instant::now() + most;
    loop {
        let written = spawn_blocking(move || {
            let piece = writer.next();
            (writer, piece)
        });
        let Ok((back, piece)) = written.await else {
            return;
        };
        writer = back;
        let is_last = piece.is_none();
        let sent = timeout_at(end, pieces.send(piece)).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// A page being written.
struct Writer {
    facts: Facts,
    page: Page,
    family: usize,
    row: usize,
}

impl Writer {
    fn new(facts: Facts) -> Self {
        Self {
            facts,
            page: Page::default(),
            family: 0,
            row: 0,
        }
    }

    /// The next piece; `None` after the last.
    fn next(&mut self) -> Option<Bytes> {
        let page = std::mem::take(&mut self.page);
        told_to(&page, || while page.len() < PIECE && self.step() {});
        let piece = page.take();
        (!piece.is_empty()).then(|| piece.into())
    }

    /// Tells one row of one family; false where everything is told.
    fn step(&mut self) -> bool {
        let Some(family) = ALL.get(self.family) else {
            return self.tell_lanes();
        };
        let (metric, row) = (family.metric, self.row);
        if row == 0 {
            metric.describe();
        }
        let facts = &self.facts;
        let told = match family.tell {
            Tell::Process(tell) => (row == 0).then(|| tell(metric, facts)),
            Tell::Service(tell) => facts.services.get(row).map(|it| tell(metric, it)),
            Tell::Version(tell) => facts.series.get(row).map(|it| tell(metric, it)),
            Tell::Counted(tell) => facts.series.get(row).map(|it| {
                if let Some(counted) = &it.counted {
                    tell(metric, &it.labels, counted);
                }
            }),
            Tell::Endpoint(tell) => facts.endpoints.get(row).map(|it| tell(metric, it)),
        };
        if told.is_some() {
            self.row += 1;
        } else {
            self.family += 1;
            self.row = 0;
        }
        true
    }

    /// Tells how the mirror's lanes are, where there are any: few, in one step.
    fn tell_lanes(&mut self) -> bool {
        let lanes = std::mem::take(&mut self.facts.lanes);
        if lanes.is_empty() {
            return false;
        }
        worker::tell(&lanes);
        true
    }
}

/// A page as it is read; one that was given up is cut, so that nobody takes it for whole.
#[derive(Debug)]
pub(super) struct Pieces(mpsc::Receiver<Option<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.0.poll_recv(cx));
        Poll::Ready(match piece {
            Some(Some(piece)) => Some(Ok(Frame::data(piece))),
            Some(None) => None,
            None => Some(Err(io::Error::other("the page was given up"))),
        })
    }
}

#[cfg(test)]
mod tests;
