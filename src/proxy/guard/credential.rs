//! The credential: found in the head, looked up in memory, never passed on. What it is worth is
//! decided by `policy::credential`; here, what issuers must be asked first is waited for.

use std::time::SystemTime;

use http::HeaderMap;

use super::Caller;
use super::issued::{Claim, Question};
use crate::model::settings::Effective;
use crate::policy::credential::{self, Refusal, Scene, Seen, Verdict};
use crate::proxy::error::{Error, Lack};
use crate::proxy::handler::Exchange;

/// How often one request may have something found out about its credentials.
const QUESTIONS_MAX: usize = 4;

/// Finds out who asks; writes it down in `caller`. An error where that is not enough.
pub(super) async fn check(
    exchange: &Exchange,
    headers: &HeaderMap,
    settings: &Effective,
    name: &str,
    caller: &mut Caller,
) -> Result<(), Error> {
    let mut asked: Vec<Question> = Vec::new();
    loop {
        match look(exchange, headers, settings, (name, &asked), caller) {
            Seen::Open(credential) => {
                if let Some(credential) = &credential {
                    let named = || Some(credential.name.clone());
                    (exchange.state.record).note(|line| line.token = named());
                }
                caller.credential = credential;
                return Ok(());
            }
            Seen::Refused(refusal) => return Err(refusal.into()),
            Seen::Asks(_) if asked.len() == QUESTIONS_MAX => return Err(Error::IssuerAway),
            Seen::Asks(question) => {
                let worker = &exchange.worker;
                // Boxed: most requests never wait.
                Box::pin(worker.issued.ask(&question, worker)).await?;
                asked.push(question);
            }
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Nothing => Self::Unauthenticated(Lack::Nothing),
            Refusal::NotGood => Self::Unauthenticated(Lack::Good),
            Refusal::Elsewhere(why) => Self::Forbidden(why),
        }
    }
}

fn look(
    exchange: &Exchange,
    headers: &HeaderMap,
    settings: &Effective,
    (name, asked): (&str, &[Question]),
    caller: &mut Caller,
) -> Seen<Question> {
    let worker = &exchange.worker;
    let scene = Scene {
        auth: &settings.auth,
        tokens: &exchange.table.tokens,
        service: name,
        address: caller.address,
        now_ms: &now_ms,
    };
    let (seen, hidden) = credential::look(headers, &scene, |id, text, hash| {
        let Some(issuer) = exchange.table.issuers.get(id) else {
            return Ok(None);
        };
        let claim = Claim {
            id,
            issuer,
            text,
            hash: *hash,
            service: name,
        };
        match worker.issued.judge(&claim, worker) {
            Ok(verdict) => Ok(Some(verdict)),
            // What was found out did not help.
            Err(question) if asked.iter().any(|other| other.is(&question)) => {
                Ok(Some(Verdict::Spent))
            }
            Err(question) => Err(question),
        }
    });
    if !settings.forward_credentials && !matches!(seen, Seen::Asks(_)) {
        caller.hidden = hidden;
    }
    seen
}

/// The gateway's own clock, Unix milliseconds.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
