//! `label`: pairs of answers for a person who does not know whose they are; on a terminal side by
//! side, else a JSON object a line, with a line for each answer.

use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, EventStream, KeyCode, KeyModifiers};
use crossterm::execute;
use crossterm::style::Print;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::shadow::{places, policy, report};
use super::signal::Stop;
use super::{Error, print, runtime};
use crate::model::name::Name;
use crate::review::{self, Choice, Fold, Pair, Reviews, Shown};
use crate::settings;
use crate::store::{self, Comparisons, Offered, Saved};

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
        let judged = report::judged(&self.comparisons, &self.label.service);
        let judged = self.runtime.block_on(judged);
        let judged = judged.map_err(|cause| lost(self.records, cause))?;
        let all: Vec<Reviews> = judged.into_iter().map(|(_, reviews)| reviews).collect();
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

/// What a person does.
enum Act {
    Say(Choice),
    Scroll(i32),
    /// Show rows that differ only, or all.
    Fold,
    Draw,
    End,
}

/// Two answers side by side; how many were judged. A key or a signal ends it.
fn on_terminal(session: &Session<'_>) -> Result<u64, Error> {
    let mut stop = {
        let _inside = session.runtime.enter();
        Stop::listen()?
    };
    let screen = Screen::open()?;
    let mut keys = EventStream::new();
    let (mut judged, mut fold) = (0, Fold::All);
    'pairs: while let Some(next) = session.next()? {
        let began = Instant::now();
        let shown = Shown::of(&next.pair, next.base_left);
        let mut first: usize = 0;
        let choice = loop {
            let (width, height) = size().map_err(Error::Terminal)?;
            let (width, height) = (usize::from(width), usize::from(height));
            let rows = shown.rows(width, fold);
            first = first.min(rows.len().saturating_sub(1));
            Screen::draw(&shown.lines((width, height), &rows, first, (next.open, judged)))?;
            let act = session.runtime.block_on(async {
                tokio::select! {
                    () = stop.wait() => Ok(Act::End),
                    event = keys.next() => match event {
                        Some(Ok(event)) => Ok(act(&event, height, next.base_left)),
                        Some(Err(cause)) => Err(Error::Terminal(cause)),
                        // The terminal is gone.
                        None => Ok(Act::End),
                    },
                }
            });
            match act? {
                Act::Say(choice) => break choice,
                Act::Scroll(rows) => {
                    let by = usize::try_from(rows.unsigned_abs()).unwrap_or(0);
                    first = if rows < 0 {
                        first.saturating_sub(by)
                    } else {
                        first + by
                    };
                }
                Act::Fold => fold = fold.other(),
                Act::Draw => {}
                Act::End => break 'pairs,
            }
        };
        judged += u64::from(session.save(&next, choice, "", began.elapsed())?);
    }
    drop(screen);
    Ok(judged)
}

fn act(event: &Event, height: usize, base_left: bool) -> Act {
    let Some(key) = event.as_key_press_event() else {
        return Act::Draw;
    };
    let page = i32::try_from(height / 2).unwrap_or(1);
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Act::End,
        KeyCode::Char('q') | KeyCode::Esc => Act::End,
        KeyCode::Down | KeyCode::Char('j') => Act::Scroll(1),
        KeyCode::Up | KeyCode::Char('k') => Act::Scroll(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Act::Scroll(page),
        KeyCode::PageUp => Act::Scroll(-page),
        KeyCode::Char('d') => Act::Fold,
        KeyCode::Char(key) => Choice::pressed(key, base_left).map_or(Act::Draw, Act::Say),
        _ => Act::Draw,
    }
}
