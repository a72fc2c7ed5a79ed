//! The screen: a head that says how things are, the rows, and what is known of the selected one.
//!
//! Invariant: a colour never says what a word or a sign beside it does not.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::board::{Board, View};
use super::head::{SILENT_MS, differ, gateways_line, met, notice, silence, sums, title, told};
use super::rows::Cells;
use super::text;
use super::trouble::{Level, Sort};

/// Whether colours are used; signs and words say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// They are.
    On,
    /// The terminal's own, bold and reverse at most.
    Off,
}

/// What stands around the rows and does not come from Redis.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where Redis is, fit for others to see.
    pub place: String,
    /// How often everything is read.
    pub every: String,
    /// Whether colours are used.
    pub colours: Colours,
}

/// Lines above the rows: title, sums, gateways, notice, column names.
const HEAD: u16 = 5;
/// Lines below the rows: two about the selected row, one about the keys.
const FOOT: u16 = 3;
/// Below this height the foot goes.
const LOW: u16 = 12;

/// The columns behind the name: heading and width. The name takes what is left.
const COLUMNS: [(&str, usize); 8] = [
    ("REQ/S", 6),
    ("ERR", 6),
    ("P50", 6),
    ("P99", 6),
    ("INFL", 5),
    ("SHARE", 5),
    ("WISH", 5),
    ("STATE", 9),
];
/// The narrowest name.
const NAME_MIN: usize = 12;

/// The heading of the view of gateways.
const GATEWAYS: &str =
    "  GATEWAY                     SIGN   REV    UP  WATCH         ADDRESS          VERSION";

/// How many rows fit on a screen of this height.
#[must_use]
pub fn rows_on(height: u16) -> usize {
    let foot = if height < LOW { 0 } else { FOOT };
    height.saturating_sub(HEAD + foot).max(1).into()
}

/// Draws everything.
pub fn draw(buffer: &mut Buffer, board: &Board, frame: &Frame) {
    let area = buffer.area;
    let mut head = vec![title(board, frame, area.width.into()), sums(board)];
    head.push(gateways_line(board));
    head.push(notice(board));
    let body = match board.view {
        View::Services => {
            head.push(columns(area.width.into(), board.sort));
            services(board, area.width.into())
        }
        View::Gateways => {
            head.push(heading(GATEWAYS));
            scrolled(board, gateways(board), rows_on(area.height))
        }
        View::News => {
            head.push(heading("  CONFIG ERRORS AND EVENTS, THE NEWEST FIRST"));
            scrolled(board, news(board), rows_on(area.height))
        }
        View::Help => {
            head.push(heading("  KEYS"));
            scrolled(board, help(), rows_on(area.height))
        }
    };
    let foot = if area.height < LOW {
        Vec::new()
    } else {
        foot(board)
    };
    let rows = rows_on(area.height);
    let blank = std::iter::repeat_with(Line::default).take(rows.saturating_sub(body.len()));
    let lines = head
        .into_iter()
        .chain(body.into_iter().take(rows))
        .chain(blank)
        .chain(foot);
    for (line, y) in lines.zip(area.top()..area.bottom()) {
        put(buffer, Rect::new(area.x, y, area.width, 1), line);
    }
    if frame.colours == Colours::Off {
        for cell in &mut buffer.content {
            (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
        }
    }
}

/// The picture as plain text, for scripts: the rows that the board was sized for, the gateways, the
/// config errors.
#[must_use]
pub fn plain(board: &Board, frame: &Frame, width: usize) -> String {
    let mut lines = vec![
        title(board, frame, width),
        sums(board),
        gateways_line(board),
    ];
    lines.push(columns(width, board.sort));
    lines.extend(services(board, width));
    let hidden = board.hidden();
    if hidden > 0 {
        lines.push(Line::from(format!(
            "  ... and {}",
            text::counted(hidden, "more row")
        )));
    }
    if met(board).next().is_some() {
        lines.extend([Line::default(), heading(GATEWAYS)]);
        lines.extend(gateways(board));
    }
    if !board.errors.is_empty() {
        lines.extend([Line::default(), heading("  CONFIG ERRORS")]);
        lines.extend(mistakes(board));
    }
    let text = lines.iter().map(|line| {
        let line: String = line.spans.iter().map(|span| &*span.content).collect();
        format!("{}\n", line.trim_end())
    });
    text.collect()
}

fn put(buffer: &mut Buffer, area: Rect, line: Line<'static>) {
    use ratatui::widgets::Widget;
    line.alignment(Alignment::Left).render(area, buffer);
}

fn heading(text: &str) -> Line<'static> {
    Line::styled(text.to_owned(), Modifier::REVERSED)
}

fn columns(width: usize, sort: Sort) -> Line<'static> {
    let (name, shown) = layout(width);
    let sorted = match sort {
        Sort::Rate => "REQ/S",
        Sort::Errors => "ERR",
        Sort::P99 => "P99",
        Sort::Inflight => "INFL",
        Sort::Worst => "STATE",
        Sort::Name => "SERVICE",
    };
    let style = |heading: &str| {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        if heading == sorted {
            reversed.add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        } else {
            reversed
        }
    };
    let first = ["SERVICE / VERSION / ENDPOINT", "SERVICE"];
    let first = first.into_iter().find(|it| it.len() <= name);
    let first = format!("  {:name$}", first.unwrap_or_default());
    let mut spans = vec![Span::styled(first, style("SERVICE"))];
    for (heading, width) in shown {
        let plain = Style::new().add_modifier(Modifier::REVERSED);
        let gap = width.saturating_sub(heading.len());
        if *heading == "STATE" {
            spans.push(Span::styled(" ", plain));
            spans.push(Span::styled((*heading).to_owned(), style(heading)));
            spans.push(Span::styled(format!("{:gap$}", ""), plain));
        } else {
            spans.push(Span::styled(format!(" {:gap$}", ""), plain));
            spans.push(Span::styled((*heading).to_owned(), style(heading)));
        }
    }
    Line::from(spans)
}

/// The width of the name, and the columns that have room beside it: the state always, the others
/// as many as fit.
fn layout(width: usize) -> (usize, Vec<&'static (&'static str, usize)>) {
    let mut shown: Vec<_> = COLUMNS.iter().collect();
    let taken =
        |shown: &[&(&str, usize)]| -> usize { shown.iter().map(|(_, width)| width + 1).sum() };
    // Dropped in this order: what a person can do without in a narrow window.
    for dropped in ["P50", "WISH", "SHARE", "INFL", "P99", "REQ/S"] {
        if taken(&shown) + NAME_MIN + 2 > width {
            shown.retain(|(heading, _)| *heading != dropped);
        }
    }
    let name = width.saturating_sub(taken(&shown) + 2).max(NAME_MIN);
    (name, shown)
}

fn services(board: &Board, width: usize) -> Vec<Line<'static>> {
    let (window, selected) = board.window();
    let summaries: std::collections::HashMap<_, _> = board.ordered().into_iter().collect();
    let cells = window.iter().enumerate().filter_map(|(at, place)| {
        let summary = summaries.get(&place.service)?;
        let cells = board.cells(place, summary)?;
        Some(row(&cells, width, at == selected))
    });
    let mut lines: Vec<Line<'static>> = cells.collect();
    if lines.is_empty() && board.now_ms > 0 {
        let words = if board.summaries().next().is_some() {
            "  nothing passes the filter (esc: all)"
        } else {
            "  no service: redis-cli HSET smartlink:endpoints:NAME http://HOST:PORT/ base"
        };
        lines.push(Line::from(words));
    }
    lines
}

fn row(cells: &Cells, width: usize, selected: bool) -> Line<'static> {
    let (name, shown) = layout(width);
    let sign = cells.level.sign();
    let mut spans = vec![
        Span::styled(format!("{sign} "), colour(cells.level)),
        Span::raw(format!("{:name$}", text::cut(&cells.name, name))),
    ];
    for (heading, width) in shown {
        let text = match *heading {
            "REQ/S" => &cells.rate,
            "ERR" => &cells.errors,
            "P50" => &cells.p50,
            "P99" => &cells.p99,
            "INFL" => &cells.inflight,
            "SHARE" => &cells.share,
            "WISH" => &cells.wished,
            _ => &cells.state,
        };
        let text = text::cut(text, *width);
        spans.push(if *heading == "STATE" {
            Span::styled(format!(" {text:width$}"), colour(cells.level))
        } else {
            Span::raw(format!(" {text:>width$}"))
        });
    }
    let line = Line::from(spans);
    if selected {
        line.style(Modifier::REVERSED)
    } else {
        line
    }
}

fn gateways(board: &Board) -> Vec<Line<'static>> {
    let differ = differ(board);
    let lines = met(board).map(|gateway| {
        let silence = silence(board, gateway);
        let level = match silence {
            SILENT_MS.. => Level::Bad,
            _ if differ || gateway.watch == "polling" => Level::Look,
            _ => Level::Fine,
        };
        let started = board.now_ms.saturating_sub(gateway.started_ms);
        let digest = if differ {
            text::cut(&gateway.digest, 8)
        } else {
            String::new()
        };
        let words = format!(
            "{} {:26} {:>5} {:>5} {:>5}  {:13} {:16} {} {digest}",
            level.sign(),
            text::cut(&gateway.instance, 26),
            text::age(silence),
            gateway.revision,
            text::age(started),
            text::cut(&gateway.watch, 13),
            text::cut(&gateway.address, 40),
            text::cut(&gateway.version, 16),
        );
        Line::styled(words.trim_end().to_owned(), colour(level))
    });
    lines.collect()
}

fn mistakes(board: &Board) -> impl Iterator<Item = Line<'static>> {
    board.errors.iter().map(|(place, message)| {
        let words = text::cut(&format!("{place}: {message}"), 500);
        Line::styled(format!("? {words}"), colour(Level::Look))
    })
}

fn news(board: &Board) -> Vec<Line<'static>> {
    let events = board
        .events
        .iter()
        .map(|event| Line::from(format!("  {}", told(event))));
    mistakes(board).chain(events).collect()
}

fn help() -> Vec<Line<'static>> {
    let lines = [
        "  arrows, j k, page up/down, home end   move",
        "  enter, space, + -, left right         open or close a service",
        "  a                                     open or close all",
        "  /                                     filter by name or state (esc: all)",
        "  !                                     only what is in trouble",
        "  s                                     next order; or at once:",
        "    w worst first   r rate   e errors   l latency   i in flight   n name",
        "  g                                     gateways",
        "  c                                     config errors and events",
        "  p                                     hold the picture still",
        "  q, ctrl-c                             quit",
        "",
        "  X nobody serves, or most requests fail   ! requests fail, an endpoint is out",
        "  ? worth a look: a config error, a few errors, a share far from its weight",
        "  Figures are of the last 10 s, all gateways together; times of a service are",
        "  those of its slowest version. P50 of an endpoint is its moving average.",
    ];
    lines.into_iter().map(Line::from).collect()
}

fn scrolled(board: &Board, lines: Vec<Line<'static>>, rows: usize) -> Vec<Line<'static>> {
    let most = lines.len().saturating_sub(rows);
    lines.into_iter().skip(board.scroll.min(most)).collect()
}

fn foot(board: &Board) -> Vec<Line<'static>> {
    let keys = " q quit  ? help  / filter  s sort  enter open  ! trouble  g gateways  c events";
    let [first, second] = match board.view {
        View::Services => board.about(),
        View::Gateways | View::News | View::Help => Default::default(),
    };
    vec![
        Line::styled(format!(" {}", text::cut(&first, 300)), Modifier::BOLD),
        Line::from(format!(" {}", text::cut(&second, 500))),
        Line::styled(keys, Modifier::DIM),
    ]
}

pub(super) fn colour(level: Level) -> Style {
    match level {
        Level::Fine => Style::new(),
        Level::Look => Style::new().fg(Color::Yellow),
        Level::Bad => Style::new().fg(Color::Red),
        Level::Dead => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}
