//! Labelled pairs in the forms that training and labelling programs read.

use serde_json::{Value as Json, json};

use super::pair::{Choice, Pair, Reviews, answered, prompt};

/// A form of export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For direct preference optimisation: prompt, chosen, rejected.
    #[default]
    Dpo,
    /// For Kahneman-Tversky optimisation: prompt, completion, label.
    Kto,
    /// Tasks for Label Studio.
    Labelstudio,
    /// Everything, labelled or not.
    Jsonl,
}

/// What is exported, and how.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The form.
    pub format: Format,
    /// Where a request says what it asks.
    pub prompt_pointer: Option<String>,
    /// Where an answer says what it says.
    pub answer_pointer: Option<String>,
    /// Prompt and answers as lists of messages.
    pub conversational: bool,
    /// Also pairs of which a part was cut or left out.
    pub partial: bool,
}

/// The lines that a pair makes, one JSON object each; none where it is left out.
#[must_use]
pub fn export(line: &Line, name: &str, pair: &Pair, reviews: &Reviews) -> Vec<Json> {
    let cut = [&pair.base.body, &pair.answer.body, &pair.request.body];
    let cut = cut.iter().any(|body| body.truncated) || pair.redacted;
    if cut && !line.partial {
        return Vec::new();
    }
    let meta = json!({
        "id": pair.id,
        "versions": ["base", pair.candidate],
        "reviewers": names(reviews),
        "chosen": pair.chosen.name(),
        "pair": name,
        "score": pair.score,
    });
    let (prompt, base, candidate) = texts(line, pair);
    match line.format {
        Format::Dpo => {
            let (chosen, rejected) = match winner(reviews) {
                Some(Choice::Base) => (base, candidate),
                Some(Choice::Candidate) => (candidate, base),
                _ => return Vec::new(),
            };
            vec![json!({"prompt": prompt, "chosen": chosen, "rejected": rejected, "meta": meta})]
        }
        Format::Kto => {
            let (of_base, of_candidate) = match winner(reviews) {
                Some(Choice::Base) => (true, false),
                Some(Choice::Candidate) => (false, true),
                Some(Choice::BothBad) => (false, false),
                _ => return Vec::new(),
            };
            let both = [(base, of_base), (candidate, of_candidate)];
            let lines = both.map(|(completion, label)| {
                json!({"prompt": prompt, "completion": completion, "label": label, "meta": meta})
            });
            lines.into()
        }
        Format::Labelstudio => vec![json!({
            "data": {"prompt": prompt, "answer1": base, "answer2": candidate, "meta": meta},
            "annotations": reviews.iter().map(|(by, choice)| annotation(by, *choice)).collect::<Vec<_>>(),
        })],
        Format::Jsonl => vec![json!({
            "prompt": prompt,
            "base": base,
            "candidate": candidate,
            "choices": reviews.iter().map(|(by, choice)| (by.clone(), Json::from(choice.name())))
                .collect::<serde_json::Map<_, _>>(),
            "request": pair.request,
            "answers": {"base": pair.base, "candidate": pair.answer},
            "meta": meta,
        })],
    }
}

fn names(reviews: &Reviews) -> Vec<&String> {
    let judged = reviews
        .iter()
        .filter(|(_, choice)| **choice != Choice::Skip);
    judged.map(|(by, _)| by).collect()
}

/// What more reviewers say than say anything else; `None` where nobody judged it, or they differ.
fn winner(reviews: &Reviews) -> Option<Choice> {
    let judged = || reviews.values().filter(|choice| **choice != Choice::Skip);
    let votes = |choice: Choice| judged().filter(|it| **it == choice).count();
    let mut ranked = Choice::ALL.map(|choice| (votes(choice), choice));
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    let [(first, choice), (second, _), ..] = ranked;
    (first > second).then_some(choice)
}

/// What was asked, what `base` and the candidate said.
fn texts(line: &Line, pair: &Pair) -> (Json, Json, Json) {
    let prompt = prompt(&pair.request, line.prompt_pointer.as_deref());
    let answer = |told| answered(told, line.answer_pointer.as_deref());
    let (base, candidate) = (answer(&pair.base), answer(&pair.answer));
    let is_chat = |it: &Json| {
        let messages = it.as_array().filter(|messages| !messages.is_empty());
        messages.is_some_and(|them| them.iter().all(|it| it.get("role").is_some()))
    };
    if !line.conversational {
        return (text(prompt), text(base), text(candidate));
    }
    let message = |role: &str, it: Json| json!([{"role": role, "content": text(it)}]);
    let prompt = if is_chat(&prompt) {
        prompt
    } else {
        message("user", prompt)
    };
    (
        prompt,
        message("assistant", base),
        message("assistant", candidate),
    )
}

/// A text as it is, anything else as JSON: columns must have one type.
fn text(value: Json) -> Json {
    match value {
        Json::String(_) => value,
        other => Json::String(other.to_string()),
    }
}

fn annotation(by: &str, choice: Choice) -> Json {
    let selected = match choice {
        Choice::Base => "left",
        Choice::Candidate => "right",
        other => other.name(),
    };
    json!({
        "completed_by": {"email": by},
        "result": [{
            "from_name": "comparison",
            "to_name": "answer1,answer2",
            "type": "pairwise",
            "value": {"selected": selected},
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::{Chosen, Told};
    use crate::shadow::{Body, Request};

    fn told(text: &str) -> Told {
        Told {
            ending: "whole".to_owned(),
            status: 200,
            content_type: None,
            body: Body::of(text.as_bytes().to_vec(), text.len() as u64, true),
        }
    }

    fn pair() -> Pair {
        let body = br#"{"messages": [{"role": "user", "content": "Hi"}]}"#;
        Pair {
            id: "r".to_owned(),
            candidate: "v2".to_owned(),
            chosen: Chosen::Random,
            started_ms: 1,
            request: Request {
                body: Body::of(body.to_vec(), body.len() as u64, true),
                ..Request::default()
            },
            redacted: false,
            base: told(r#"{"choices": [{"message": {"content": "Hello"}}]}"#),
            answer: told("plain"),
            score: None,
        }
    }

    fn lines(format: Format, reviews: &[(&str, Choice)]) -> Vec<Json> {
        let line = Line {
            format,
            ..Line::default()
        };
        let reviews = reviews
            .iter()
            .map(|(by, choice)| ((*by).to_owned(), *choice));
        export(&line, "r:v2", &pair(), &reviews.collect())
    }

    #[test]
    fn a_preference_needs_more_voices_than_any_other() {
        use Choice::{Base, BothBad, Candidate, Skip, Tie};
        for (reviews, chosen) in [
            (&[("a", Candidate)][..], Some("plain")),
            (&[("a", Base), ("b", Skip)], Some("Hello")),
            (&[("a", Base), ("b", Candidate)], None),
            (&[("a", Base), ("b", Base), ("c", Candidate)], Some("Hello")),
            (&[("a", Tie)], None),
            (&[("a", BothBad)], None),
            (&[("a", Skip)], None),
            (&[], None),
        ] {
            let lines = lines(Format::Dpo, reviews);
            let got = lines
                .first()
                .map(|line| line["chosen"].as_str().expect("a text"));
            assert_eq!(got, chosen, "{reviews:?}");
        }
        assert_eq!(lines(Format::Kto, &[("a", BothBad)]).len(), 2);
        assert_eq!(lines(Format::Jsonl, &[]).len(), 1);
    }

    #[test]
    fn what_was_cut_is_left_out_unless_asked_for() {
        let mut cut = pair();
        cut.base.body.truncated = true;
        let reviews = Reviews::from([("a".to_owned(), Choice::Base)]);
        let mut line = Line::default();
        assert!(export(&line, "r", &cut, &reviews).is_empty());
        line.partial = true;
        assert_eq!(export(&line, "r", &cut, &reviews).len(), 1);
    }

    #[test]
    fn conversations_are_lists_of_messages() {
        let line = Line {
            conversational: true,
            ..Line::default()
        };
        let reviews = Reviews::from([("a".to_owned(), Choice::Base)]);
        let lines = export(&line, "r", &pair(), &reviews);
        let line = lines.first().expect("one");
        assert_eq!(line["prompt"][0]["content"], "Hi");
        assert_eq!(line["chosen"][0]["role"], "assistant");
    }
}
