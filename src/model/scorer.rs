//! The judge outside: who is asked which of two answers is better, and how.

use std::time::Duration;

use super::decode::Decoder;
use super::endpoint::Target;
use super::value::{http_url, nonzero_duration, whole};

/// Who is asked which of two answers is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Scorer {
    /// In which words.
    pub asks: Asks,
    /// Where.
    pub at: Target,
    /// The most pairs that a worker asks about at once.
    pub concurrent: usize,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// In which words a judge is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// In those of our manual.
    Ours,
    /// As a model is asked behind `/chat/completions`; its name.
    Chat(Box<str>),
}

/// The most pairs that may be asked about at once.
const CONCURRENT_MAX: usize = 64;
/// The longest name of a model.
const MODEL_MAX: usize = 128;
/// Where models are asked, below the URL.
const CHAT: &str = "/chat/completions";

impl Scorer {
    /// Takes the fields of a shadow policy that say so; `None` where none is asked.
    pub(super) fn take(decoder: &mut Decoder<'_>) -> Option<Self> {
        let concurrent = decoder.take("scorer_concurrent", whole(1..=CONCURRENT_MAX));
        let timeout = decoder.take("scorer_timeout", nonzero_duration);
        let (asks, at) = decoder.take_secret("scorer", scorer)?;
        Some(Self {
            asks,
            at,
            concurrent: concurrent.unwrap_or(2),
            timeout: timeout.unwrap_or(Duration::from_mins(1)),
        })
    }
}

fn scorer(text: &str) -> Result<(Asks, Target), String> {
    let Some(rest) = text.strip_prefix("llm:") else {
        return http_url(text).map(|at| (Asks::Ours, at)).map_err(|wanted| {
            format!("{wanted}; or llm:<model>@<URL>, such as llm:m1@https://example.com/v1")
        });
    };
    let lower = rest.to_ascii_lowercase();
    // Names of models have an @, too.
    let begins = ["@http://", "@https://"].map(|begin| lower.find(begin));
    let begins = begins.into_iter().flatten().min();
    let (model, url) = begins
        .and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
        .filter(|(model, _)| {
            (1..=MODEL_MAX).contains(&model.len()) && model.bytes().all(|b| b.is_ascii_graphic())
        })
        .ok_or_else(|| "llm:<model>@<URL>, such as llm:m1@https://example.com/v1".to_owned())?;
    let mut at = http_url(url).map_err(|wanted| format!("after the @: {wanted}"))?;
    let (path, query) = match at.path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (&*at.path, String::new()),
    };
    let path = path.trim_end_matches('/');
    let chat = if path.ends_with(CHAT) { "" } else { CHAT };
    at.path = format!("{path}{chat}{query}").into();
    Ok((Asks::Chat(model.into()), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, &str)>) {
        let got = scorer(text).ok().map(|(asks, at)| match asks {
            Asks::Ours => (String::new(), at.path.into_string()),
            Asks::Chat(model) => (model.into_string(), at.path.into_string()),
        });
        let got = got.as_ref().map(|(model, path)| (&**model, &**path));
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn a_model_is_asked_below_its_url() {
        check("https://judge/score?a=1", Some(("", "/score?a=1")));
        check("llm:m1@https://h/v1", Some(("m1", "/v1/chat/completions")));
        check("llm:m1@http://h", Some(("m1", "/chat/completions")));
        check(
            "llm:@cf/meta/m@2@HTTPS://h/v1/?v=2",
            Some(("@cf/meta/m@2", "/v1/chat/completions?v=2")),
        );
        check(
            "llm:m@https://h/x/chat/completions",
            Some(("m", "/x/chat/completions")),
        );
        for wrong in [
            "llm:",
            "llm:m1",
            "llm:@https://h/",
            "llm:a b@https://h/",
            "llm:m@https://user@h/",
            "judge",
        ] {
            check(wrong, None);
        }
    }
}
