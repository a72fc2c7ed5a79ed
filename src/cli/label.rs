//! `label`: pairs of answers for a person who does not know whose they are; on a terminal side by
//! side, else a JSON object a line, with a line for each answer.

use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyModifiers, read};
use crossterm::execute;
use crossterm::style::Print;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use tokio::time::Instant;

use super::shadow::{places, policy};
use super::{Error, print, runtime};
use crate::model::name::Name;
use crate::review::{self, Choice, Pair, Reviews, Shown};
use crate::settings;
use crate::store::{self, Comparisons, Offered, Saved};

/// Pairs that are read at once.
const AT_ONCE: u64 = 100;

/// Asks until nothing is left to judge, or the reviewer ends it.
pub(super) fn run(label: &settings::Label) -> Result<ExitCode, Error> {
    let name = format!("label-{}", std::process::id());
    let (config, records) = places(&label.place, &name);
    let runtime = runtime()?;
    let (comparisons, wanted) = runtime.block_on(async {
        let failed = |cause| lost(&records, cause);
        let wanted = policy(&config, &label.service).await?.reviewers;
        let comparisons = Comparisons::connect(&records).map_err(failed)?;
        comparisons.wait().await.map_err(failed)?;
        Ok::<_, Error>((comparisons, wanted))
    })?;
    let session = Session {
        label,
        records: &records,
        comparisons,
        wanted,
        runtime,
    };
    if label.agreement {
        print(&session.agreement()?)?;
    } else if stdin().is_terminal() && stdout().is_terminal() {
        let judged = on_terminal(&session)?;
        print(&format!("{judged} judged\n"))?;
    } else {
        by_lines(&session)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lost(records: &store::Options, cause: store::Error) -> Error {
    Error::Redis {
        place: records.shown(),
        cause,
    }
}

/// A reviewer at work.
struct Session<'s> {
    label: &'s settings::Label,
    records: &'s store::Options,
    comparisons: Comparisons,
    wanted: u32,
    runtime: tokio::runtime::Runtime,
}

/// The next pair.
struct Next {
    offered: Offered,
    pair: Pair,
    open: u64,
    base_left: bool,
}

impl Session<'_> {
    /// The next pair for this reviewer; `None` where there is none.
    fn next(&self) -> Result<Option<Next>, Error> {
        let settings::Label {
            service,
            reviewer,
            hold,
            ..
        } = self.label;
        loop {
            let picked = self.comparisons.reserve(service, reviewer, *hold);
            let picked = self.runtime.block_on(picked);
            let picked = picked.map_err(|cause| lost(self.records, cause))?;
            let Some(offered) = picked.next else {
                return Ok(None);
            };
            if let Some(pair) = Pair::parse(&offered.fields) {
                let base_left = review::has_base_left(&offered.name, reviewer);
                return Ok(Some(Next {
                    offered,
                    pair,
                    open: picked.open,
                    base_left,
                }));
            }
            // What is no pair would come again and again.
            self.say(
                &offered.name,
                "candidate",
                "unknown",
                Choice::Skip,
                "",
                Duration::ZERO,
            )?;
        }
    }

    fn save(
        &self,
        next: &Next,
        choice: Choice,
        comment: &str,
        looked: Duration,
    ) -> Result<bool, Error> {
        let (candidate, chosen) = (&next.pair.candidate, next.pair.chosen.name());
        self.say(
            &next.offered.name,
            candidate,
            chosen,
            choice,
            comment,
            looked,
        )
    }

    fn say(
        &self,
        name: &str,
        candidate: &str,
        chosen: &str,
        choice: Choice,
        comment: &str,
        looked: Duration,
    ) -> Result<bool, Error> {
        let candidate = Name::parse(candidate);
        let candidate = candidate.or_else(|| Name::parse("candidate"));
        let saved = Saved {
            name,
            candidate: &candidate.expect("candidate is a name"),
            chosen,
            reviewer: &self.label.reviewer,
            choice: choice.name(),
            comment,
            looked,
            wanted: self.wanted,
        };
        let saved = self.comparisons.save(&self.label.service, &saved);
        let saved = self.runtime.block_on(saved);
        saved.map_err(|cause| lost(self.records, cause))
    }

    /// Who judged how many, and how far each two agree.
    fn agreement(&self) -> Result<String, Error> {
        let mut all: Vec<Reviews> = Vec::new();
        let mut behind = "0".to_owned();
        loop {
            let read = (self.comparisons).labelled(&self.label.service, &behind, AT_ONCE);
            let read = self.runtime.block_on(read);
            let verdicts = read.map_err(|cause| lost(self.records, cause))?;
            let Some(last) = verdicts.last() else {
                break;
            };
            behind.clone_from(&last.entry);
            all.extend(verdicts.iter().map(|it| review::reviews(&it.labels)));
        }
        Ok(review::agreement_lines(&all))
    }
}

/// A line of JSON for each pair, and a line that says what of it: a key, then a comment. The end of
/// the lines, or `q`, is the end.
fn by_lines(session: &Session<'_>) -> Result<(), Error> {
    let mut lines = stdin().lock().lines();
    while let Some(next) = session.next()? {
        let began = Instant::now();
        let shown = Shown::of(&next.pair, next.base_left);
        print(&format!("{}\n", shown.json(&next.offered.name)))?;
        let (choice, comment) = loop {
            let Some(Ok(line)) = lines.next() else {
                return Ok(());
            };
            let (key, comment) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            let mut keys = key.chars();
            match (keys.next(), keys.next()) {
                (Some('q'), None) => return Ok(()),
                (Some(key), None) => match Choice::pressed(key, next.base_left) {
                    Some(choice) => break (choice, comment.to_owned()),
                    None => eprintln!("smartlink: a, b, e, x, s or q, then a comment"),
                },
                _ => eprintln!("smartlink: a, b, e, x, s or q, then a comment"),
            }
        };
        session.save(&next, choice, &comment, began.elapsed())?;
    }
    Ok(())
}

/// The terminal as it was, whatever happens.
struct Screen;

impl Screen {
    fn open() -> Result<Self, Error> {
        enable_raw_mode().map_err(Error::Terminal)?;
        let screen = Self;
        execute!(stdout(), EnterAlternateScreen, Hide).map_err(Error::Terminal)?;
        Ok(screen)
    }

    fn draw(lines: &[String]) -> Result<(), Error> {
        let mut out = stdout();
        execute!(out, Clear(ClearType::All)).map_err(Error::Terminal)?;
        for (row, line) in (0..).zip(lines) {
            execute!(out, MoveTo(0, row), Print(line)).map_err(Error::Terminal)?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        drop(execute!(stdout(), Show, LeaveAlternateScreen));
        drop(disable_raw_mode());
    }
}

/// Two answers side by side; how many were judged.
fn on_terminal(session: &Session<'_>) -> Result<u64, Error> {
    let screen = Screen::open()?;
    let mut judged = 0;
    'pairs: while let Some(next) = session.next()? {
        let began = Instant::now();
        let shown = Shown::of(&next.pair, next.base_left);
        let mut first = 0;
        let choice = loop {
            let (width, height) = size().map_err(Error::Terminal)?;
            let lines = shown.lines(
                usize::from(width),
                usize::from(height),
                first,
                next.open,
                judged,
            );
            Screen::draw(&lines)?;
            let Event::Key(key) = read().map_err(Error::Terminal)? else {
                continue;
            };
            if !key.is_press() {
                continue;
            }
            match key.code {
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => break 'pairs,
                KeyCode::Char('q') | KeyCode::Esc => break 'pairs,
                KeyCode::Down | KeyCode::Char('j') => first += 1,
                KeyCode::Up | KeyCode::Char('k') => first = first.saturating_sub(1),
                KeyCode::PageDown | KeyCode::Char(' ') => first += usize::from(height) / 2,
                KeyCode::PageUp => first = first.saturating_sub(usize::from(height) / 2),
                KeyCode::Char(key) => {
                    if let Some(choice) = Choice::pressed(key, next.base_left) {
                        break choice;
                    }
                }
                _ => {}
            }
        };
        judged += u64::from(session.save(&next, choice, "", began.elapsed())?);
    }
    drop(screen);
    Ok(judged)
}
