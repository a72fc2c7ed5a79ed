//! `top`: reads what the gateways write, and shows it until a key, a signal or `--once` ends it.

mod reader;
mod screen;

use std::future::Future;
use std::io::{IsTerminal, stdout};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use self::reader::{Extent, Reader};
use self::screen::Screen;
use super::signal::Stop;
use super::{Error, chain, redis_options, runtime};
use crate::model::keys::Keys;
use crate::settings;
use crate::store::{self, View};
use crate::top::draw::{self, Colours, Frame};
use crate::top::{Board, Reading, Step};

/// Between two readings while not everything was looked at once.
const HURRY: Duration = Duration::from_millis(50);
/// Between two readings at the least, however fast keys are pressed.
const BREATH: Duration = Duration::from_millis(100);
/// The most rows of one picture.
const ROWS_ONCE: usize = 1_000;
/// The width of a picture for no terminal.
const WIDTH_ONCE: usize = 120;

/// Shows the picture once, or until it is told to end.
pub(super) fn run(top: &settings::Top) -> Result<ExitCode, Error> {
    let once = top.once || top.json;
    if !once && !stdout().is_terminal() {
        return Err(Error::NoTerminal);
    }
    let config = redis_options(&top.redis, &format!("top-{}", std::process::id()));
    let stats = top.stats_redis.as_ref().map(|url| store::Options {
        url: url.reveal().to_owned(),
        user: None,
        password: None,
        ..config.clone()
    });
    let frame = Frame {
        place: config.shown(),
        every: shortest(top.interval),
        colours: if top.no_color {
            Colours::Off
        } else {
            Colours::On
        },
    };
    let keys = Keys::new(&top.redis.prefix);
    let mut board = Board::new(keys, top.sort, &top.filter);
    runtime()?.block_on(async {
        let failed = |place: String| move |cause| Error::Redis { place, cause };
        let view = View::connect(&config).map_err(failed(config.shown()))?;
        let stats = match &stats {
            Some(stats) => Some(View::connect(stats).map_err(failed(stats.shown()))?),
            None => None,
        };
        let mut reader = Reader::new(view, stats);
        if !once {
            return watch(reader, board, &frame, top.interval).await;
        }
        reader.wait().await.map_err(failed(config.shown()))?;
        picture(&mut reader, &mut board)
            .await
            .map_err(failed(config.shown()))?;
        super::print(&if top.json {
            format!("{:#}\n", board.picture())
        } else {
            draw::plain(&board, &frame, width())
        })
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The interval as a person would write it.
fn shortest(interval: Duration) -> String {
    match interval.subsec_millis() {
        0 => format!("{}s", interval.as_secs()),
        _ => format!("{}ms", interval.as_millis()),
    }
}

/// As wide as the terminal, or wide enough for a script.
fn width() -> usize {
    let terminal = stdout().is_terminal().then(crossterm::terminal::size);
    terminal
        .and_then(Result::ok)
        .map_or(WIDTH_ONCE, |(columns, _)| columns.into())
}

/// Looks at everything once, and at what comes first in full.
async fn picture(reader: &mut Reader, board: &mut Board) -> Result<(), store::Error> {
    board.open_all(true);
    loop {
        let read = reader.read(board.wanted(), Extent::All).await?;
        board.take(read);
        if board.is_whole() {
            break;
        }
    }
    // Only now it is known which they are.
    board.resize(ROWS_ONCE);
    let read = reader.read(board.wanted(), Extent::All).await?;
    board.take(read);
    Ok(())
}

/// A reading on its way; it gives the reader back.
type Busy = Pin<Box<dyn Future<Output = (Reader, Result<Reading, store::Error>)>>>;

/// Reads one thing after another.
enum Turn {
    Idle(Reader),
    Busy(Busy),
    /// Between the two.
    Gone,
}

impl Turn {
    fn begin(&mut self, board: &mut Board) {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Idle(mut reader) => {
                let wanted = board.wanted();
                Self::Busy(Box::pin(async move {
                    let read = reader.read(wanted, Extent::Part).await;
                    (reader, read)
                }))
            }
            other => other,
        };
    }

    /// Waits until a reading is done; for ever where none is on its way.
    async fn done(&mut self) -> Result<Reading, store::Error> {
        let Self::Busy(busy) = self else {
            return std::future::pending().await;
        };
        let (reader, read) = busy.await;
        *self = Self::Idle(reader);
        read
    }
}

/// Draws, reads and follows keys until one of them, or a signal, says that it is the end.
async fn watch(
    reader: Reader,
    mut board: Board,
    frame: &Frame,
    interval: Duration,
) -> Result<(), Error> {
    let mut stop = Stop::listen()?;
    let mut screen = Screen::open().map_err(Error::Terminal)?;
    let mut keys = EventStream::new();
    let mut turn = Turn::Idle(reader);
    let (mut began, mut next) = (Instant::now(), Instant::now());
    let mut lost: Option<Instant> = None;
    loop {
        screen.draw(&mut board, frame).map_err(Error::Terminal)?;
        let idle = matches!(turn, Turn::Idle(_));
        tokio::select! {
            () = stop.wait() => return Ok(()),
            event = keys.next() => match event {
                Some(Ok(event)) => {
                    match press(&event).map_or(Step::Draw, |press| board.press(press)) {
                        Step::Quit => return Ok(()),
                        Step::Read => next = next.min(began + BREATH),
                        Step::Draw => {}
                    }
                }
                // The terminal is gone.
                Some(Err(cause)) => return Err(Error::Terminal(cause)),
                None => return Ok(()),
            },
            () = sleep_until(next), if idle => {
                began = Instant::now();
                next = began + interval;
                turn.begin(&mut board);
            }
            read = turn.done() => match read {
                Ok(read) => {
                    lost = None;
                    board.take(read);
                    if !board.is_whole() {
                        next = next.min(Instant::now() + HURRY);
                    }
                }
                Err(error) => {
                    let since = *lost.get_or_insert_with(Instant::now);
                    let for_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    board.lose(chain(&error), for_ms);
                }
            },
        }
    }
}

/// The key of an event, where it is one that we know.
fn press(event: &Event) -> Option<crate::top::Press> {
    screen::press(event.as_key_press_event()?)
}
