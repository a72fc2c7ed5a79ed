//! A pair as a reviewer sees it: the question, and two answers of which nobody says whose they are.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde_json::{Value as Json, json};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Agreement;
use super::pair::{Choice, Pair, Reviews, agreement, answered, prompt};

/// What a reviewer sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    question: Json,
    left: Json,
    right: Json,
}

/// Which rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// All of them.
    All,
    /// Those that differ.
    Different,
}

impl Fold {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::All => Self::Different,
            Self::Different => Self::All,
        }
    }
}

/// What the keys mean.
const KEYS: &str = "a left b right e equal x both bad s skip d diff q end";

impl Shown {
    /// The pair, `base` on the left or on the right.
    #[must_use]
    pub fn of(pair: &Pair, base_left: bool) -> Self {
        let (base, candidate) = (answered(&pair.base, None), answered(&pair.answer, None));
        let (left, right) = if base_left {
            (base, candidate)
        } else {
            (candidate, base)
        };
        Self {
            question: prompt(&pair.request, None),
            left,
            right,
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self, name: &str) -> Json {
        json!({"pair": name, "prompt": self.question, "left": self.left, "right": self.right})
    }

    /// The rows of both answers beside each other, in a terminal of this width.
    #[must_use]
    pub fn rows(&self, width: usize, fold: Fold) -> Vec<[String; 2]> {
        let half = half(width);
        let mut left = wrapped(&self.left, half).into_iter();
        let mut right = wrapped(&self.right, half).into_iter();
        let mut rows = Vec::new();
        loop {
            let row = [left.next(), right.next()];
            if row == [None, None] {
                return rows;
            }
            let row = row.map(Option::unwrap_or_default);
            if fold == Fold::All || row[0] != row[1] {
                rows.push(row);
            }
        }
    }

    /// For a terminal of this size; `rows` from the one numbered `first` on. `open` pairs are not
    /// judged by all, `judged` were judged here.
    #[must_use]
    pub fn lines(
        &self,
        (width, height): (usize, usize),
        rows: &[[String; 2]],
        first: usize,
        (open, judged): (u64, u64),
    ) -> Vec<String> {
        let half = half(width);
        let mut lines: Vec<String> = wrapped(&self.question, width.max(1));
        lines.truncate(height.saturating_sub(4).max(2) / 3);
        lines.push("-".repeat(width));
        let room = height.saturating_sub(lines.len() + 2);
        for row in first..first + room {
            let [left, right] = rows.get(row).cloned().unwrap_or_default();
            let mark = if left == right { ' ' } else { '|' };
            let gap = " ".repeat(half.saturating_sub(left.width()));
            lines.push(format!("{left}{gap} {mark} {right}"));
        }
        lines.push("-".repeat(width));
        lines.push(format!("{open} open, {judged} judged  {KEYS}"));
        for line in &mut lines {
            line.truncate(fitting(line, width));
        }
        lines.truncate(height.max(1));
        lines
    }
}

/// The width of one of two columns.
fn half(width: usize) -> usize {
    (width.saturating_sub(3) / 2).max(1)
}

/// A value as lines of at most so many columns, without what a terminal would obey.
fn wrapped(value: &Json, width: usize) -> Vec<String> {
    let text = match value {
        Json::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).expect("JSON is text"),
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        let plain: String = line
            .chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .filter(|c| !c.is_control())
            .collect();
        let mut rest = plain.as_str();
        loop {
            // What is wider than the terminal is cut when it is drawn.
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let (part, behind) = rest.split_at(fitting(rest, width).max(first));
            lines.push(part.to_owned());
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
    }
    lines
}

/// How many bytes of a text fit into so many columns; letters of Chinese take two.
fn fitting(text: &str, width: usize) -> usize {
    let mut columns = 0;
    let fits = |(_, c): &(usize, char)| {
        columns += c.width().unwrap_or(0);
        columns <= width
    };
    let last = text.char_indices().take_while(fits).last();
    last.map_or(0, |(at, c)| at + c.len_utf8())
}

/// How far each two reviewers agree, where that can be said.
#[must_use]
pub fn agreements(all: &[Reviews]) -> Vec<Agreement> {
    let reviewers: BTreeSet<&String> = all.iter().flat_map(Reviews::keys).collect();
    let mut agreements = Vec::new();
    for one in &reviewers {
        for other in reviewers.range::<String, _>((Bound::Excluded(*one), Bound::Unbounded)) {
            let Some((kappa, pairs)) = agreement(all, one, other) else {
                continue;
            };
            agreements.push(Agreement {
                one: (*one).clone(),
                other: (*other).clone(),
                kappa,
                pairs,
            });
        }
    }
    agreements
}

/// Who judged how many pairs, and how far each two agree.
#[must_use]
pub fn agreement_lines(all: &[Reviews]) -> String {
    let reviewers: BTreeSet<&String> = all.iter().flat_map(Reviews::keys).collect();
    let mut lines = Vec::new();
    for reviewer in &reviewers {
        let of = |skipped: bool| {
            let choices = all.iter().filter_map(|reviews| reviews.get(*reviewer));
            choices
                .filter(|it| (**it == Choice::Skip) == skipped)
                .count()
        };
        let (judged, skipped) = (of(false), of(true));
        lines.push(format!("{reviewer}: {judged} judged, {skipped} skipped\n"));
    }
    for it in agreements(all) {
        let (one, other, kappa, pairs) = (it.one, it.other, it.kappa, it.pairs);
        lines.push(format!(
            "{one} and {other}: kappa {kappa:.2} over {pairs} pairs\n"
        ));
    }
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_as_large_as_the_terminal_and_harmless() {
        let shown = Shown {
            question: json!("what\u{1b}[2J is it?"),
            left: json!(["a", {"b": 1}]),
            right: json!("long 南京 ".repeat(100)),
        };
        for (width, height) in [(80, 24), (20, 10), (1, 1), (0, 0), (200, 3)] {
            let rows = shown.rows(width, Fold::All);
            let lines = shown.lines((width, height), &rows, 0, (3, 1));
            assert!(lines.len() <= height.max(1), "{width}x{height}");
            assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
            assert!(lines.iter().all(|line| line.width() <= width), "{lines:?}");
        }
        let rows = shown.rows(80, Fold::All);
        let lines = shown.lines((80, 24), &rows, 0, (3, 1));
        assert!(lines.iter().any(|line| line.contains("long")), "{lines:?}");
    }
}
