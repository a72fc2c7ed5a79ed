//! The terminal: taken over, drawn on, and given back however it ends.

use std::io;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::DefaultTerminal;

use crate::top::draw::{self, Frame};
use crate::top::{Board, Press};

/// The terminal while it is ours: raw, on its other page.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes it over. A panic gives it back before it says what it has to say.
    pub(super) fn open() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        Ok(Self { terminal })
    }

    /// Draws what changed, in the size that the terminal has now.
    pub(super) fn draw(&mut self, board: &mut Board, frame: &Frame) -> io::Result<()> {
        self.terminal.draw(|canvas| {
            board.resize(draw::rows_on(canvas.area().height));
            draw::draw(canvas.buffer_mut(), board, frame);
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What a key of the terminal means to us.
pub(super) fn press(key: KeyEvent) -> Option<Press> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Press::Interrupt),
            KeyCode::Char('f') => Some(Press::PageDown),
            KeyCode::Char('b') => Some(Press::PageUp),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char(c) => Press::Char(c),
        KeyCode::Up => Press::Up,
        KeyCode::Down => Press::Down,
        KeyCode::Left => Press::Left,
        KeyCode::Right => Press::Right,
        KeyCode::PageUp => Press::PageUp,
        KeyCode::PageDown => Press::PageDown,
        KeyCode::Home => Press::Home,
        KeyCode::End => Press::End,
        KeyCode::Enter => Press::Enter,
        KeyCode::Esc => Press::Escape,
        KeyCode::Backspace => Press::Backspace,
        KeyCode::Tab => Press::Tab,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[ignore = "the test below runs it in a terminal of its own"]
    fn panics_on_the_screen() {
        let _screen = Screen::open().unwrap();
        panic!("something is wrong");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_why() {
        let there = Command::new("script")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            eprintln!("skipped: util-linux script is not on PATH, so there is no terminal");
            return;
        }
        let this = std::env::current_exe().unwrap();
        let inner = "cli::top::screen::tests::panics_on_the_screen";
        let line = format!(
            "stty -g; {} --exact {inner} --ignored --nocapture; stty -g",
            this.display()
        );
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let at = |part: &str| {
            text.find(part)
                .unwrap_or_else(|| panic!("no {part} in {text}"))
        };
        let (taken, given) = (at("\u{1b}[?1049h"), at("\u{1b}[?1049l"));
        assert!(taken < given && given < at("something is wrong"), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines.first(),
            lines.last(),
            "settings of the terminal: {text}"
        );
    }
}
