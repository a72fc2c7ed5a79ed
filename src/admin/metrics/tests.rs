//! How pages are handed out: whole or cut, one at a time.

use http_body_util::BodyExt;
use tokio::runtime::Builder;

use super::*;
use crate::control::recorder::{self, Books, Flush, Readers};
use crate::model::config::{Config, Extent, Reading, Sight};
use crate::model::decode::Raw;
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;

/// A table whose page has many pieces.
fn table() -> Arc<Table> {
    let readings = (0..1000).map(|n| Reading {
        object: Object::Endpoints(Name::parse(&format!("s{n}")).expect("valid")),
        raw: Raw::Hash([("http://h/".to_owned(), "base".to_owned())].into()),
        sight: Sight::Named,
    });
    let mut config = Config::new(Keys::new("smartlink:"));
    let applied = config.apply(readings.collect(), Extent::All, 1);
    applied.table.expect("a table")
}

fn books() -> Books {
    Books {
        counted: Vec::new(),
        flush: Flush::default(),
    }
}

fn metrics() -> (Metrics, Readers) {
    let (reader, readers) = recorder::reader();
    let (_, lanes) = tokio::sync::watch::channel(Vec::new());
    let table = Arc::new(ArcSwap::new(table()));
    let board = Board::new(Instant::now());
    (
        Metrics::new(table, Arc::default(), board, Arc::default(), reader, lanes),
        readers,
    )
}

/// A page, asked for while the recorder answers.
async fn page(metrics: &Metrics, readers: &mut Readers) -> Pieces {
    let answer = async {
        let reader = readers.next().await.expect("it asks");
        reader.send(books()).expect("it waits");
    };
    let (page, ()) = tokio::join!(metrics.page(), answer);
    page.expect("a page")
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn a_page_comes_in_pieces_and_whole() {
    run(async {
        let (metrics, mut readers) = metrics();
        let mut page = page(&metrics, &mut readers).await;
        let (mut pieces, mut text) = (0, Vec::new());
        while let Some(piece) = page.frame().await {
            let piece = piece.expect("it is not cut").into_data().expect("data");
            assert!(piece.len() < PIECE + 4096);
            text.extend(piece);
            pieces += 1;
        }
        assert!(pieces > 10, "{pieces}");
        let text = String::from_utf8(text).expect("text");
        let of = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(of("smartlink_requests_in_flight{"), 1000);
        assert_eq!(of("smartlink_endpoint_state{"), 4000);
        assert_eq!(of("process_start_time_seconds "), 1);
    });
}

#[test]
fn one_page_is_written_at_a_time() {
    run(async {
        let (metrics, mut readers) = metrics();
        let first = page(&metrics, &mut readers).await;
        assert_eq!(metrics.turn.available_permits(), 0);
        // Whoever stops reading gives way to the next.
        let (second, ()) = tokio::join!(page(&metrics, &mut readers), async { drop(first) });
        assert_eq!(metrics.turn.available_permits(), 0);
        second.collect().await.expect("it is whole");
        drop(metrics.turn.acquire().await.expect("it is open"));
    });
}

#[test]
fn a_page_that_takes_too_long_is_cut() {
    run(async {
        let (metrics, _readers) = metrics();
        let sources = Sources {
            table: metrics.table.load_full(),
            status: Arc::clone(&metrics.status),
            board: metrics.board.clone(),
            meters: Arc::default(),
            started: 0.0,
            lanes: Vec::new(),
        };
        let writer = Writer::new(Facts::gather(sources, books()));
        let (pieces, rest) = mpsc::channel(1);
        write(writer, pieces, Duration::ZERO).await;
        let read = Pieces(rest).collect().await;
        assert!(read.is_err(), "nobody takes it for whole");
    });
}
