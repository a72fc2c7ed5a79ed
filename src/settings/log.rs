//! Flags of the logs: that of the gateway, and that of its requests; and of their spans.

use std::path::PathBuf;

use clap::Args;

use super::{OrOff, flag};
use crate::model::endpoint::Target;
use crate::{access, telemetry};

/// How the log looks.
#[derive(Clone, Debug, Args)]
pub struct Log {
    /// Form of the log lines, which go to standard error
    #[arg(
        long = "log-format",
        env = "SMARTLINK_LOG_FORMAT",
        default_value = "text"
    )]
    pub format: telemetry::Format,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,smartlink::store=debug
    #[arg(
        long = "log",
        env = "SMARTLINK_LOG",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = flag::log_filter
    )]
    pub filter: String,
}

/// Whether and how requests are logged.
#[derive(Clone, Debug, Args)]
pub struct AccessLog {
    /// One line for each request: a file, - for standard output, or off
    #[arg(id = "access_log", long = "access-log", env = "SMARTLINK_ACCESS_LOG", value_name = "FILE", default_value = "off", value_parser = flag::file_or_off)]
    pub file: OrOff<PathBuf>,
    /// Form of the lines of the access log
    #[arg(
        id = "access_log_format",
        long = "access-log-format",
        env = "SMARTLINK_ACCESS_LOG_FORMAT",
        value_name = "FORM",
        default_value = "json"
    )]
    pub format: access::Format,
    /// Share of the requests that get a line, from 0 to 1
    #[arg(id = "access_log_sample", long = "access-log-sample", env = "SMARTLINK_ACCESS_LOG_SAMPLE", value_name = "SHARE", default_value = "1", value_parser = flag::share)]
    pub sample: f64,
}

impl AccessLog {
    /// None.
    pub(super) const OFF: Self = Self {
        file: OrOff::Off,
        format: access::Format::Json,
        sample: 1.0,
    };
}

/// Whether requests are recorded as OpenTelemetry spans, and which.
#[derive(Clone, Debug, Args)]
pub struct Otlp {
    /// OpenTelemetry collector that takes spans over OTLP/HTTP at <URL>/v1/traces, or off
    #[arg(id = "otlp_endpoint", long = "otlp-endpoint", env = "SMARTLINK_OTLP_ENDPOINT", value_name = "URL", default_value = "off", value_parser = flag::collector_or_off)]
    pub endpoint: OrOff<Target>,
    /// Share of the requests that get spans where no traceparent decides, from 0 to 1
    #[arg(id = "otlp_sample", long = "otlp-sample", env = "SMARTLINK_OTLP_SAMPLE", value_name = "SHARE", default_value = "0.01", value_parser = flag::share)]
    pub sample: f64,
}

impl Otlp {
    /// They are not.
    pub(super) const OFF: Self = Self {
        endpoint: OrOff::Off,
        sample: 0.01,
    };
}
