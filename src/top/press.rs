//! What a key does.

use super::board::{Board, FILTER_MAX, View, find};
use super::rows::Place;
use super::trouble::Sort;

/// A key, as a terminal says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "a key's name says it")]
pub enum Press {
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Tab,
    Interrupt,
}

/// What follows from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, or another screen of what is known.
    Draw,
    /// Something else is looked at: read it now.
    Read,
    /// The end.
    Quit,
}

impl Board {
    fn go(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let places = self.places();
        let last = places.len().saturating_sub(1);
        let at = find(&places, self.selected.as_ref());
        let to = to(at, last).min(last);
        self.selected = places.into_iter().nth(to).filter(|_| to > 0);
        self.settle();
    }

    /// Follows a key.
    pub fn press(&mut self, press: Press) -> Step {
        if press == Press::Interrupt {
            return Step::Quit;
        }
        if self.typing {
            return self.type_filter(press);
        }
        match press {
            Press::Char('q') => return Step::Quit,
            Press::Char('?' | 'h') => self.show(View::Help),
            Press::Char('g') => self.show(View::Gateways),
            Press::Char('c' | 'v') => self.show(View::News),
            Press::Tab => self.show(match self.view {
                View::Services => View::Gateways,
                View::Gateways => View::News,
                View::News | View::Help => View::Services,
            }),
            Press::Escape if self.view != View::Services => self.show(View::Services),
            Press::Char('p') => self.paused = !self.paused,
            _ if self.view == View::Services => self.press_in_services(press),
            _ => self.press_in_text(press),
        }
        Step::Read
    }

    /// Another screen; the same key again goes back.
    fn show(&mut self, view: View) {
        self.scroll = 0;
        self.view = if self.view == view {
            View::Services
        } else {
            view
        };
    }

    fn type_filter(&mut self, press: Press) -> Step {
        match press {
            Press::Char(c) if self.filter.chars().count() < FILTER_MAX && !c.is_control() => {
                self.filter.push(c);
            }
            Press::Backspace => drop(self.filter.pop()),
            Press::Escape => {
                self.filter.clear();
                self.typing = false;
            }
            Press::Enter => self.typing = false,
            _ => {}
        }
        self.selected = None;
        self.settle();
        Step::Read
    }

    fn press_in_text(&mut self, press: Press) {
        self.scroll = match press {
            Press::Up | Press::Char('k') => self.scroll.saturating_sub(1),
            Press::Down | Press::Char('j') => self.scroll + 1,
            Press::PageUp => self.scroll.saturating_sub(self.height),
            Press::PageDown | Press::Char(' ') => self.scroll + self.height,
            Press::Home => 0,
            Press::End => usize::MAX,
            _ => self.scroll,
        };
    }

    fn press_in_services(&mut self, press: Press) {
        let page = self.height.saturating_sub(1).max(1);
        match press {
            Press::Up | Press::Char('k') => self.go(|at, _| at.saturating_sub(1)),
            Press::Down | Press::Char('j') => self.go(|at, _| at + 1),
            Press::PageUp => self.go(|at, _| at.saturating_sub(page)),
            Press::PageDown => self.go(|at, _| at + page),
            Press::Home => self.go(|_, _| 0),
            Press::End => self.go(|_, last| last),
            Press::Enter | Press::Char(' ') => self.turn(None),
            Press::Right | Press::Char('+') => self.turn(Some(true)),
            Press::Left | Press::Char('-') => self.turn(Some(false)),
            Press::Char('a') => self.open_all(!self.open.unwrap_or_default()),
            Press::Char('/') => self.typing = true,
            Press::Char('!') => self.trouble_only = !self.trouble_only,
            Press::Char('s') => self.sort = self.sort.next(),
            Press::Char('w') => self.sort = Sort::Worst,
            Press::Char('r') => self.sort = Sort::Rate,
            Press::Char('e') => self.sort = Sort::Errors,
            Press::Char('l') => self.sort = Sort::P99,
            Press::Char('i') => self.sort = Sort::Inflight,
            Press::Char('n') => self.sort = Sort::Name,
            Press::Escape => {
                self.filter.clear();
                self.trouble_only = false;
                self.selected = None;
            }
            _ => {}
        }
        self.settle();
    }

    /// Opens or closes the service of the selected row; `None`: the other way round.
    fn turn(&mut self, open: Option<bool>) {
        let Some(place) = self.selected() else {
            return;
        };
        let is_open = self.is_open(&place.service);
        if open.is_none_or(|open| open != is_open) {
            let name = place.service.clone();
            if !self.turned.remove(&name) {
                self.turned.insert(name);
            }
        }
        self.selected = Some(Place::of(place.service));
    }
}
