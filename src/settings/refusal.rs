//! What is said of flags that cannot be understood.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Refusal;

/// Clap's report, as the text that was asked for or as one line.
pub(super) fn of(error: &clap::Error) -> Refusal {
    let text = error.render().to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Refusal::Asked(text);
    }
    let parts: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = parts.join("; ").replace("; tip: ", "; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    match error.get(ContextKind::InvalidArg) {
        // The value may hold a password.
        Some(ContextValue::String(flag)) if flag.contains("redis <") => {
            let value = error
                .get(ContextKind::InvalidValue)
                .map(ToString::to_string);
            Refusal::Wrong(line.replace(&value.unwrap_or_default(), "..."))
        }
        _ => Refusal::Wrong(line.to_owned()),
    }
}
