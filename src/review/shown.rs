//! A pair as a reviewer sees it: the question, and two answers of which nobody says whose they are.

use serde_json::{Value as Json, json};

use super::pair::{Choice, Pair, Reviews, agreement, answered, prompt};

/// What a reviewer sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    question: Json,
    left: Json,
    right: Json,
}

/// What the keys mean.
const KEYS: &str = "a left  b right  e equal  x both bad  s skip  q end";

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

    /// For a terminal of this size; the answers from their line `first` on. `open` pairs are not
    /// judged by all, `judged` were judged here.
    #[must_use]
    pub fn lines(
        &self,
        width: usize,
        height: usize,
        first: usize,
        open: u64,
        judged: u64,
    ) -> Vec<String> {
        let half = (width.saturating_sub(3) / 2).max(1);
        let rows = height.saturating_sub(4).max(2);
        let mut lines: Vec<String> = wrapped(&self.question, width.max(1));
        lines.truncate(rows / 3);
        lines.push("-".repeat(width));
        let (left, right) = (wrapped(&self.left, half), wrapped(&self.right, half));
        let room = height.saturating_sub(lines.len() + 2);
        for row in first..first + room {
            let at = |lines: &[String]| lines.get(row).cloned().unwrap_or_default();
            let (left, right) = (at(&left), at(&right));
            let mark = if left == right { ' ' } else { '|' };
            let gap = " ".repeat(half.saturating_sub(left.chars().count()));
            lines.push(format!("{left}{gap} {mark} {right}"));
        }
        lines.push("-".repeat(width));
        lines.push(format!("{KEYS}   {open} open, {judged} judged"));
        lines.truncate(height.max(1));
        lines
    }
}

/// A value as lines of at most so many characters, without those that a terminal would obey.
fn wrapped(value: &Json, width: usize) -> Vec<String> {
    let text = match value {
        Json::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).expect("JSON is text"),
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        let plain: Vec<char> = line
            .chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .filter(|c| !c.is_control())
            .collect();
        if plain.is_empty() {
            lines.push(String::new());
        }
        lines.extend(
            plain
                .chunks(width)
                .map(|part| part.iter().collect::<String>()),
        );
    }
    lines
}

/// Who judged how many pairs, and how far each two agree.
#[must_use]
pub fn agreement_lines(all: &[Reviews]) -> String {
    let mut reviewers: Vec<&String> = all.iter().flat_map(Reviews::keys).collect();
    reviewers.sort_unstable();
    reviewers.dedup();
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
    for (at, one) in reviewers.iter().enumerate() {
        for other in reviewers.iter().skip(at + 1) {
            if let Some((kappa, pairs)) = agreement(all, one, other) {
                lines.push(format!(
                    "{one} and {other}: kappa {kappa:.2} over {pairs} pairs\n"
                ));
            }
        }
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
            right: json!("long ".repeat(100)),
        };
        for (width, height) in [(80, 24), (20, 10), (1, 1), (0, 0), (200, 3)] {
            let lines = shown.lines(width, height, 0, 3, 1);
            assert!(lines.len() <= height.max(1), "{width}x{height}");
            assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
        }
        let lines = shown.lines(80, 24, 0, 3, 1);
        assert!(lines.iter().any(|line| line.contains("long")), "{lines:?}");
    }
}
