//! `shadow`: the worker that compares candidates with `base`, and what came of it.

mod export;
mod progress;
pub(super) mod report;

use std::process::ExitCode;

use tokio::sync::watch;
use tokio::task::LocalSet;

use self::progress::Progress;
use super::signal::Stop;
use super::{Error, redis_options, runtime};
use crate::model::name::{ServiceName, VersionName};
use crate::review::Mode;
use crate::settings::{self, Begin, Place, ShadowVerb};
use crate::store::{self, Start};
use crate::telemetry;
use crate::worker::{self, Plan, Status};
use crate::{admin, app};

/// Works, or prints.
pub(super) fn run(shadow: &settings::Worker) -> Result<ExitCode, Error> {
    match &shadow.verb {
        None => work(shadow),
        Some(ShadowVerb::Report(report)) => report::run(report),
        Some(ShadowVerb::Export(export)) => export::run(export),
    }
}

/// Where configuration and records are, for one who calls itself so.
pub(super) fn places(place: &Place, name: &str) -> (store::Options, store::Options) {
    let config = redis_options(&place.redis, name);
    let records = match &place.shadow_redis {
        None => config.clone(),
        Some(url) => store::Options {
            url: url.reveal().to_owned(),
            user: None,
            password: None,
            ..config.clone()
        },
    };
    (config, records)
}

fn work(shadow: &settings::Worker) -> Result<ExitCode, Error> {
    let filter = telemetry::parse_filter(&shadow.log.filter).map_err(Error::Log)?;
    telemetry::init(shadow.log.format, filter).map_err(Error::Log)?;
    let now = jiff::Timestamp::now().as_millisecond();
    let name = shadow.consumer(u64::try_from(now).unwrap_or_default());
    let (config, records) = places(&shadow.place, &name);
    let place = records.shown();
    let start = match &shadow.from {
        Begin::New => Start::New,
        Begin::Oldest => Start::Oldest,
        Begin::Entry(id) => Start::After(id.clone()),
    };
    let history = shadow.history || start != Start::New;
    let plan = Plan {
        config,
        records,
        kafka: shadow.kafka.clone(),
        services: shadow.services.clone(),
        candidates: shadow.candidate.clone(),
        start,
        mode: if history { Mode::History } else { Mode::Live },
        max_rate: shadow.max_rate.0,
        max_concurrent: usize::from(shadow.max_concurrent),
        claim_after: shadow.claim_after,
        once: shadow.once,
        scorer_key: worker::scorer_key(settings::secret)?,
    };
    let admin = shadow.admin.as_option().map(|address| admin::Options {
        address: *address,
        token_file: shadow.admin_token_file.clone(),
    });
    runtime()?.block_on(LocalSet::new().run_until(async {
        let mut signals = Stop::listen()?;
        let (say, stop) = watch::channel(false);
        tokio::task::spawn_local(async move {
            signals.wait().await;
            say.send_replace(true);
            // Whoever asks twice does not want to wait for what is in flight.
            signals.wait().await;
            std::process::exit(1);
        });
        let (board, lanes) = watch::channel(Vec::new());
        if let Some(admin) = &admin {
            admin::worker::open(admin, lanes)
                .await
                .map_err(app::Error::Admin)?;
        }
        let mut progress = Progress::begin();
        let tell = |statuses: &[Status]| {
            progress.show(statuses);
            board.send_replace(statuses.to_vec());
        };
        let done = worker::run(plan, stop, tell).await;
        progress.end();
        let statuses = done.map_err(|cause| Error::Redis { place, cause })?;
        super::print(&progress::summary(&statuses))
    }))?;
    Ok(ExitCode::SUCCESS)
}

/// The candidates that are asked for, or those of the policy.
pub(super) async fn candidates(
    config: &store::Options,
    service: &ServiceName,
    asked: &[VersionName],
) -> Result<Vec<VersionName>, Error> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    Ok(policy(config, service).await?.candidates)
}

/// The shadow policy of a service, as it stands in Redis; the defaults where none does.
pub(super) async fn policy(
    config: &store::Options,
    service: &ServiceName,
) -> Result<crate::model::shadow::Shadow, Error> {
    use crate::model::keys::Object;
    use crate::model::object::{Value, decode_object};
    let failed = |cause| Error::Redis {
        place: config.shown(),
        cause,
    };
    let view = store::View::connect(config).map_err(failed)?;
    view.wait().await.map_err(failed)?;
    let object = Object::Shadow(service.clone());
    let key = view.keys().object(&object);
    let read = view.hashes(&[key]).await.map_err(failed)?;
    let fields = read.into_iter().next().unwrap_or_default();
    let (value, mistakes) = decode_object(view.keys(), &object, &fields);
    match value {
        Some(Value::Shadow(policy)) if mistakes.is_empty() => Ok(policy),
        _ => {
            let first = mistakes.first().map(ToString::to_string);
            Err(Error::NoShadow(first.unwrap_or_default()))
        }
    }
}
