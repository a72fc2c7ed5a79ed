//! The lines above the rows: where we are, everything together, gateways, and the one thing to know.

use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use super::board::Board;
use super::draw::{Frame, colour};
use super::facts::Gateway;
use super::text;
use super::trouble::Level;

pub(super) fn title(board: &Board, frame: &Frame, width: usize) -> Line<'static> {
    let mut right = text::clock(board.now_ms);
    right.push_str(if board.paused { "  PAUSED" } else { "" });
    let state = format!("  every {}  sort {}", frame.every, board.sort.word());
    right = format!("{right}{state} ");
    let name = " smartlink top  ";
    let room = width.saturating_sub(name.len() + right.chars().count() + 1);
    let place = text::cut(&frame.place, room);
    let left = format!("{name}{place}");
    let gap = width.saturating_sub(left.chars().count() + right.chars().count());
    Line::styled(format!("{left}{:gap$}{right}", ""), Modifier::BOLD)
}

/// Everything together.
pub(super) fn sums(board: &Board) -> Line<'static> {
    let (mut count, mut trouble, mut out, mut inflight) = (0_usize, 0, 0, 0);
    let (mut rps, mut failing) = (0.0, 0.0);
    for summary in board.summaries() {
        count += 1;
        trouble += usize::from(summary.level.is_trouble());
        out += summary.broken;
        inflight += summary.inflight;
        rps += summary.rps;
        failing += summary.failing();
    }
    let errors = if rps > 0.0 { failing / rps } else { 0.0 };
    let more = if board.unseen > 0 { "+" } else { "" };
    let so_far = if board.is_whole() || count == 0 {
        ""
    } else {
        "~"
    };
    let mut spans = vec![Span::raw(format!(
        " {count}{more} {}, ",
        if count == 1 { "service" } else { "services" }
    ))];
    let level = if trouble > 0 { Level::Bad } else { Level::Fine };
    let out = match out {
        0 => String::new(),
        out => format!(", {} out", text::counted(out, "endpoint")),
    };
    spans.push(Span::styled(
        format!("{trouble} in trouble{out}"),
        colour(level),
    ));
    spans.push(Span::raw(format!(
        "   {so_far}{} req/s, ",
        text::number(rps)
    )));
    let level = if errors >= 0.01 {
        Level::Bad
    } else {
        Level::Fine
    };
    spans.push(Span::styled(
        format!("{} errors", text::share(errors)),
        colour(level),
    ));
    spans.push(Span::raw(format!(", {} in flight", text::count(inflight))));
    Line::from(spans)
}

/// A gateway gives a sign of life each half second; a silence of this length is noticed.
pub(super) const SILENT_MS: u64 = 3_000;

pub(super) fn silence(board: &Board, gateway: &Gateway) -> u64 {
    board.now_ms.saturating_sub(gateway.heartbeat_ms)
}

/// Gateways whose hash was read.
pub(super) fn met(board: &Board) -> impl Iterator<Item = &Gateway> {
    let all = board.gateways.values();
    all.filter(|gateway| !gateway.instance.is_empty())
}

/// Whether gateways hold different tables. Revisions count from each one's own start: it is the
/// digest that tells.
pub(super) fn differ(board: &Board) -> bool {
    let mut digests = met(board)
        .filter(|it| silence(board, it) < SILENT_MS)
        .map(|it| &it.digest);
    let first = digests.next();
    digests.any(|digest| Some(digest) != first)
}

pub(super) fn gateways_line(board: &Board) -> Line<'static> {
    let count = met(board).count();
    if count == 0 {
        let unknown = board.now_ms == 0;
        let level = if unknown { Level::Fine } else { Level::Bad };
        let words = if unknown {
            " reading ..."
        } else {
            " ! no gateway gives a sign of life"
        };
        return Line::styled(words, colour(level));
    }
    let silent: Vec<&Gateway> = met(board)
        .filter(|it| silence(board, it) >= SILENT_MS)
        .collect();
    let mut words = format!("{}, ", text::counted(count, "gateway"));
    let mut level = Level::Fine;
    if let Some(gateway) = silent.first() {
        level = Level::Bad;
        let age = text::age(silence(board, gateway));
        words = format!(
            "{words}{} silent: {} for {age}",
            silent.len(),
            text::cut(&gateway.instance, 40)
        );
    } else if differ(board) {
        level = Level::Look;
        words.push_str("their tables differ");
    } else {
        let newest = met(board).max_by_key(|it| it.revision);
        let revision = newest.map_or(0, |it| it.revision);
        words = format!("{words}one table, revision {revision}");
    }
    if met(board).any(|it| it.watch == "polling") {
        level = level.max(Level::Look);
        words.push_str(", polling");
    }
    Line::styled(format!(" {} {words}", level.sign()), colour(level))
}

/// The one thing to know beside the rows: Redis is away, a mistake, or what happened last.
pub(super) fn notice(board: &Board) -> Line<'static> {
    if let Some((why, for_ms)) = &board.lost {
        let age = text::age(*for_ms);
        let words = format!(" X Redis is away for {age}: {}", text::cut(why, 200));
        return Line::styled(words, colour(Level::Dead));
    }
    if board.typing {
        return Line::from(format!(
            " filter: {}_   (enter keeps it, esc drops it)",
            board.filter
        ));
    }
    if let Some(refused) = &board.refused {
        return Line::styled(
            format!(" ? {}", text::cut(refused, 200)),
            colour(Level::Look),
        );
    }
    let mut chosen = String::new();
    if !board.filter.is_empty() {
        chosen = format!(" filter: {}  ", board.filter);
    }
    if board.trouble_only {
        chosen.push_str(" only trouble  ");
    }
    if !chosen.is_empty() {
        return Line::from(format!("{chosen}(esc: all)"));
    }
    if let Some((place, message)) = board.errors.first_key_value() {
        let count = text::counted(board.errors.len(), "config error");
        let words = format!(
            " ? {count}: {}",
            text::cut(&format!("{place}: {message}"), 300)
        );
        return Line::styled(words, colour(Level::Look));
    }
    board.events.first().map_or_else(Line::default, |event| {
        Line::from(format!("   {}", told(event)))
    })
}

/// An event in a line.
pub(super) fn told(event: &crate::model::decode::Fields) -> String {
    let of = |field: &str| event.get(field).map_or("", String::as_str);
    let at_ms = of("at_ms").parse().unwrap_or_default();
    let mut words = vec![text::clock(at_ms), of("kind").to_owned()];
    for field in ["service", "version", "endpoint", "why"] {
        if !of(field).is_empty() {
            words.push(of(field).to_owned());
        }
    }
    text::cut(&words.join(" "), 300)
}
