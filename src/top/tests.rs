//! What the board makes of keys and readings, drawn on ratatui's test terminal.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::board::{Board, Reading, SURVEY, Sighting};
use super::draw::{self, Colours, Frame};
use super::facts::Hashes;
use super::facts::tests::{canary, fields};
use super::press::{Press, Step};
use super::trouble::Sort;
use crate::model::keys::Keys;
use crate::model::name::{Name, ServiceName};

fn name(text: &str) -> ServiceName {
    Name::parse(text).expect("valid")
}

fn board() -> Board {
    let mut board = Board::new(Keys::new("smartlink:"), Sort::Worst, "");
    board.resize(16);
    board
}

/// A service with this rate and share of errors.
fn hashes(rps: &str, error_rate: &str) -> Hashes {
    Hashes {
        live: fields(&[("base.rps", rps), ("base.error_rate", error_rate)]),
        endpoints: fields(&[("http://h:1/", "base")]),
        ..Hashes::default()
    }
}

/// Reads once: what is wanted, as far as it is among these services, which are all there are.
fn read(board: &mut Board, services: &[(&str, Hashes)], change: impl FnOnce(&mut Reading)) {
    let wanted = board.wanted();
    let find = |names: Vec<ServiceName>| {
        let hashes = |name: &ServiceName| {
            let found = services.iter().find(|(it, _)| *it == name.as_str());
            found.map_or_else(Hashes::default, |(_, hashes)| hashes.clone())
        };
        let pairs = names.into_iter().map(|name| (name.clone(), hashes(&name)));
        pairs.collect()
    };
    let mut reading = Reading {
        now_ms: 100_000,
        sighting: Sighting {
            services: services.iter().map(|(it, _)| name(it)).collect(),
            gateways: Vec::new(),
            complete: true,
        },
        survey: find(wanted.survey),
        details: find(wanted.details),
        gateways: wanted
            .gateways
            .into_iter()
            .map(|it| (it, fields(&[])))
            .collect(),
        ..Reading::default()
    };
    change(&mut reading);
    board.take(reading);
}

fn frame(colours: Colours) -> Frame {
    Frame {
        place: "redis://127.0.0.1:6379".to_owned(),
        every: "1s".to_owned(),
        colours,
    }
}

fn terminal(board: &mut Board, width: u16, height: u16, colours: Colours) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    board.resize(draw::rows_on(height));
    terminal
        .draw(|canvas| draw::draw(canvas.buffer_mut(), board, &frame(colours)))
        .expect("it draws");
    terminal
}

/// The screen, line by line.
fn screen(board: &mut Board, width: u16, height: u16) -> Vec<String> {
    let terminal = terminal(board, width, height, Colours::On);
    let buffer = terminal.backend().buffer();
    let cells: Vec<&str> = buffer
        .content()
        .iter()
        .map(ratatui::buffer::Cell::symbol)
        .collect();
    cells
        .chunks(width.into())
        .map(|line| line.concat().trim_end().to_owned())
        .collect()
}

/// The services on the screen, in order.
fn services(board: &mut Board) -> Vec<String> {
    let lines = screen(board, 80, 24);
    let rows = lines
        .iter()
        .filter_map(|line| line.split(['▾', '▸']).nth(1));
    let names = rows.filter_map(|row| row.split_whitespace().next());
    names.map(str::to_owned).collect()
}

fn press(board: &mut Board, keys: &str) {
    for key in keys.chars() {
        assert_eq!(board.press(Press::Char(key)), Step::Read, "{key}");
    }
}

#[test]
fn a_screen_of_80_by_24_says_everything() {
    let mut board = board();
    let all = [("canary", canary()), ("fine", hashes("10", "0"))];
    for _ in 0..2 {
        read(&mut board, &all, |reading| {
            reading.gateways = vec![(
                "g1".to_owned(),
                fields(&[
                    ("heartbeat_ms", "99600"),
                    ("revision", "41"),
                    ("digest", "d"),
                ]),
            )];
        });
    }
    board.press(Press::Down);
    board.press(Press::Down);
    board.press(Press::Down);
    board.press(Press::Down);
    let lines = screen(&mut board, 80, 24);
    let expected = [
        " smartlink top  redis://127.0.0.1:6379           00:01:40  every 1s  sort worst",
        " 2 services, 1 in trouble, 1 endpoint out   123 req/s, 2.3% errors, 11 in flight",
        "   1 gateway, one table, revision 41",
        "",
        "  SERVICE                 REQ/S    ERR    P50    P99  INFL SHARE  WISH STATE",
        "! ▾ canary                  113   2.5%  300ms  1.50s    11             DOWN 1/2",
        "?   base                   90.5     0% 12.2ms 40.0ms     2   78%   90%",
        "      h:1/                 90.5     0% 12.5ms            2             up",
        "!   v1.2                   22.5    12%  300ms  1.50s     9   22%   10%",
        "!     h:2/                 22.5    12%  310ms            9             DOWN 1/2",
        "  ▾ fine                     10     0%      -      -     0             ok",
        "    base                     10     0%      -      -     0     -  100%",
        "      h:1/                    0     0%      -            0             -",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(line, expected, "{}", lines.join("\n"));
    }
    let about = [
        " http://h:2/ down",
        " for 40s, on 1 of 2 gateways, 28 of 225 attempts failed in 10s, connection refus",
        " q quit  ? help  / filter  s sort  enter open  ! trouble  g gateways  c events",
    ];
    assert_eq!(lines[21..], about);
}

#[test]
fn a_colour_never_says_what_a_sign_does_not() {
    let mut board = board();
    let all = [("canary", canary()), ("dead", hashes("5", "0.9"))];
    for _ in 0..2 {
        read(&mut board, &all, |_| {});
    }
    let coloured = terminal(&mut board, 80, 24, Colours::On);
    let plain = terminal(&mut board, 80, 24, Colours::Off);
    let (coloured, plain) = (coloured.backend().buffer(), plain.backend().buffer());
    let reset = ratatui::style::Color::Reset;
    let mut signs = 0;
    for (y, line) in coloured.content().chunks(80).enumerate() {
        let red = line.iter().any(|cell| cell.fg != reset);
        let text: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        // The sums say it in words.
        let said = text.trim_start().starts_with(['X', '!', '?']) || text.contains("in trouble");
        assert!(!red || said, "{y}: {text}");
        signs += usize::from(red);
    }
    assert!(signs >= 5, "{signs} lines are coloured");
    for (one, other) in coloured.content().iter().zip(plain.content()) {
        assert_eq!(one.symbol(), other.symbol());
        assert_eq!((other.fg, other.bg), (reset, reset));
    }
}

#[test]
fn every_size_is_drawn() {
    let mut board = board();
    for _ in 0..2 {
        read(&mut board, &[("canary", canary())], |_| {});
    }
    for keys in ["", "g", "c", "?"] {
        press(&mut board, keys);
        for width in [1, 2, 7, 20, 33, 50, 79, 80, 81, 200] {
            for height in [1, 2, 5, 6, 11, 12, 24, 60] {
                assert_eq!(screen(&mut board, width, height).len(), usize::from(height));
            }
        }
    }
}

#[test]
fn the_selected_row_stays_selected_while_others_come_and_go() {
    let mut board = board();
    let mut all: Vec<(&str, Hashes)> = vec![
        ("a", hashes("1", "0")),
        ("b", hashes("1", "0")),
        ("c", hashes("1", "0")),
    ];
    board.open_all(false);
    for _ in 0..2 {
        read(&mut board, &all, |_| {});
    }
    board.press(Press::Down);
    assert!(screen(&mut board, 80, 24)[21].contains("service b"));
    // Another becomes the worst; the first row is no longer the same.
    all[2].1 = hashes("1", "1");
    read(&mut board, &all, |_| {});
    assert_eq!(services(&mut board), ["c", "a", "b"]);
    assert!(screen(&mut board, 80, 24)[21].contains("service b"));
    all.remove(1);
    read(&mut board, &all, |_| {});
    assert!(
        screen(&mut board, 80, 24)[21].contains("service c"),
        "it is gone"
    );
}

#[test]
fn who_never_moved_stands_on_the_worst() {
    let mut board = board();
    let mut all = vec![("a", hashes("1", "0")), ("b", hashes("1", "0"))];
    for _ in 0..2 {
        read(&mut board, &all, |_| {});
    }
    assert!(screen(&mut board, 80, 24)[21].contains("service a"));
    all[1].1 = hashes("1", "1");
    read(&mut board, &all, |_| {});
    assert!(screen(&mut board, 80, 24)[21].contains("service b"));
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut board = board();
    let all = [
        ("ner", hashes("1", "0")),
        ("geo", hashes("1", "0.2")),
        ("qa", hashes("0", "0")),
    ];
    for _ in 0..2 {
        read(&mut board, &all, |_| {});
    }
    press(&mut board, "/q");
    assert_eq!(services(&mut board), ["qa"], "q is a letter here");
    board.press(Press::Backspace);
    press(&mut board, "ERR");
    assert_eq!(services(&mut board), ["geo"], "a state counts, too");
    board.press(Press::Enter);
    press(&mut board, "s");
    assert_eq!(services(&mut board), ["geo"]);
    board.press(Press::Escape);
    assert_eq!(services(&mut board).len(), 3);
    press(&mut board, "!");
    assert_eq!(services(&mut board), ["geo"]);
    press(&mut board, "/zzz");
    assert!(screen(&mut board, 80, 24)[5].contains("nothing passes the filter"));
    assert_eq!(board.press(Press::Interrupt), Step::Quit);
}

#[test]
fn a_held_picture_stands_still() {
    let mut board = board();
    read(&mut board, &[("a", hashes("1", "0"))], |_| {});
    press(&mut board, "p");
    read(&mut board, &[("b", hashes("1", "0"))], |_| {});
    assert_eq!(services(&mut board), ["a"]);
    press(&mut board, "p");
    read(&mut board, &[("b", hashes("1", "0"))], |_| {});
    assert_eq!(services(&mut board), ["b"]);
}

#[test]
fn of_thousands_only_the_screen_and_a_part_are_wanted() {
    let mut board = board();
    board.resize(20);
    let names: Vec<String> = (0..2_000).map(|n| format!("s{n:04}")).collect();
    let mut all: Vec<(&str, Hashes)> = names
        .iter()
        .map(|name| (name.as_str(), hashes("1", "0")))
        .collect();
    all[1_234].1 = hashes("1", "0.9");
    read(&mut board, &all, |_| {});
    press(&mut board, "a");
    let mut readings = 0;
    while !board.is_whole() {
        read(&mut board, &all, |_| {});
        readings += 1;
        assert!(board.details.len() <= 20);
    }
    assert_eq!(readings, 2_000_usize.div_ceil(SURVEY));
    assert_eq!(services(&mut board)[0], "s1234");
    let wanted = board.wanted();
    assert!(wanted.details.contains(&name("s1234")));
    assert!(wanted.details.len() + wanted.survey.len() <= 20 + SURVEY);
    // An event makes it looked at first, wherever the slow turn is.
    read(&mut board, &all, |reading| {
        reading.events = vec![fields(&[("at_ms", "99000"), ("service", "s1999")])];
    });
    press(&mut board, "a");
    assert!(board.wanted().survey.contains(&name("s1999")));
}

#[test]
fn gateways_that_are_silent_or_differ_are_named() {
    let gateway = |heartbeat: &str, digest: &str| {
        fields(&[
            ("heartbeat_ms", heartbeat),
            ("digest", digest),
            ("revision", "7"),
        ])
    };
    let mut board = board();
    read(&mut board, &[], |_| {});
    assert!(screen(&mut board, 80, 24)[2].contains("! no gateway"));
    for (gateways, expected) in [
        (
            vec![("a", "99600", "x"), ("b", "99000", "x")],
            "  2 gateways, one table, revision 7",
        ),
        (
            vec![("a", "99600", "x"), ("b", "99000", "y")],
            "? 2 gateways, their tables differ",
        ),
        (
            vec![("a", "99600", "x"), ("b", "90000", "y")],
            "! 2 gateways, 1 silent: b for 10s",
        ),
    ] {
        read(&mut board, &[], |reading| {
            let gateways = gateways.iter();
            reading.gateways = gateways
                .map(|(name, heartbeat, digest)| ((*name).to_owned(), gateway(heartbeat, digest)))
                .collect();
        });
        assert_eq!(screen(&mut board, 80, 24)[2], format!(" {expected}"));
    }
    // Its hash has expired: that it is gone is news.
    read(&mut board, &[], |_| {});
    assert!(screen(&mut board, 80, 24)[2].contains("silent: b"));
    read(&mut board, &[], |reading| reading.now_ms += 400_000);
    assert!(screen(&mut board, 80, 24)[2].contains("no gateway"));
}

#[test]
fn what_redis_refuses_and_that_it_is_away_is_a_line() {
    let mut board = board();
    read(&mut board, &[("a", hashes("1", "0"))], |reading| {
        reading.errors = fields(&[("smartlink:weights:a base", "want \u{1b}[31mless")]);
    });
    let line = screen(&mut board, 80, 24)[3].clone();
    assert_eq!(
        line,
        " ? 1 config error: smartlink:weights:a base: want ?[31mless"
    );
    board.lose("connection refused".to_owned(), 12_345);
    let lines = screen(&mut board, 80, 24);
    assert_eq!(lines[3], " X Redis is away for 12s: connection refused");
    assert_eq!(services(&mut board), ["a"], "the last picture stays");
}
