//! One line of the access log.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::model::visible::escaped;

/// The longest that a header or a target is written.
const TEXT_MAX: usize = 2_048;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object.
    #[default]
    Json,
    /// The combined log format of Apache httpd.
    Combined,
}

/// What led a request to its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The name in its body.
    Named,
    /// The route with this id.
    #[serde(untagged)]
    Route(Box<str>),
}

/// Why a request went to its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The route pins it, or the caller chose it.
    Chosen,
    /// Its caller stays there.
    Sticky,
    /// By weight.
    Weight,
    /// Its own version could not take it.
    Spill,
}

/// What is known of a request; times in microseconds.
#[derive(Clone, Debug)]
pub struct Line {
    /// When its head was here.
    pub time: SystemTime,
    /// Its `x-request-id`.
    pub id: Box<str>,
    /// The client's address, through trusted proxies.
    pub client: IpAddr,
    /// The method.
    pub method: Box<str>,
    /// Path and query.
    pub target: Box<str>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor: u8,
    /// The host that was asked for.
    pub host: Option<Box<str>>,
    /// `user-agent`.
    pub user_agent: Option<Box<str>>,
    /// `referer`.
    pub referer: Option<Box<str>>,
    /// Who asked, by the name of the token.
    pub token: Option<Box<str>>,
    /// What led it to its service.
    pub rule: Option<Rule>,
    /// The service.
    pub service: Option<Box<str>>,
    /// The version that was asked last.
    pub version: Option<Box<str>>,
    /// Why it was that one.
    pub why: Option<Why>,
    /// The endpoint that was asked last.
    pub endpoint: Option<Box<str>>,
    /// Attempts at endpoints.
    pub attempts: u32,
    /// Time spent waiting for a place or an endpoint.
    pub wait_us: u64,
    /// Time the last connection took; 0 where it was there already.
    pub connect_us: u64,
    /// Time to the head of the upstream's answer.
    pub first_byte_us: Option<u64>,
    /// Time to the end of the answer.
    pub total_us: u64,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The status; 499 where the client left.
    pub status: u16,
    /// The code of what failed.
    pub error: Option<&'static str>,
    /// The clock that ran out, by the name of its setting.
    pub clock: Option<&'static str>,
}

#[derive(Serialize)]
struct Json<'l> {
    time: String,
    id: &'l str,
    client: IpAddr,
    method: &'l str,
    target: &'l str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'l Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'l str>,
    attempts: u32,
    wait_ms: f64,
    connect_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    total_ms: f64,
    bytes_in: u64,
    bytes_out: u64,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<&'static str>,
}

impl Line {
    /// A line of a request of which nothing else is known yet.
    #[must_use]
    pub fn new(time: SystemTime, client: IpAddr) -> Self {
        Self {
            time,
            id: "".into(),
            client,
            method: "".into(),
            target: "".into(),
            minor: 1,
            host: None,
            user_agent: None,
            referer: None,
            token: None,
            rule: None,
            service: None,
            version: None,
            why: None,
            endpoint: None,
            attempts: 0,
            wait_us: 0,
            connect_us: 0,
            first_byte_us: None,
            total_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            status: 0,
            error: None,
            clock: None,
        }
    }

    /// Appends the line and its end.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => self.write_json(out),
            Format::Combined => self.write_combined(out),
        }
    }

    fn protocol(&self) -> &'static str {
        match self.minor {
            0 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        let time = Timestamp::try_from(self.time).unwrap_or(Timestamp::UNIX_EPOCH);
        let json = Json {
            time: format!("{time:.3}"),
            id: &self.id,
            client: self.client,
            method: &self.method,
            target: cut(&self.target),
            protocol: self.protocol(),
            host: self.host.as_deref().map(cut),
            user_agent: self.user_agent.as_deref().map(cut),
            referer: self.referer.as_deref().map(cut),
            token: self.token.as_deref(),
            rule: self.rule.as_ref(),
            service: self.service.as_deref(),
            version: self.version.as_deref(),
            why: self.why,
            endpoint: self.endpoint.as_deref(),
            attempts: self.attempts,
            wait_ms: millis(self.wait_us),
            connect_ms: millis(self.connect_us),
            first_byte_ms: self.first_byte_us.map(millis),
            total_ms: millis(self.total_us),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            status: self.status,
            error: self.error,
            clock: self.clock,
        };
        let mut serializer = Serializer::with_formatter(&mut *out, Visible);
        (json.serialize(&mut serializer)).expect("texts and numbers, into memory");
        out.push(b'\n');
    }

    fn write_combined(&self, out: &mut Vec<u8>) {
        let time = Timestamp::try_from(self.time).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = time.to_zoned(TimeZone::UTC);
        let (client, protocol) = (self.client, self.protocol());
        writeln!(
            out,
            "{client} - - [{}] \"{} {} {protocol}\" {} {} \"{}\" \"{}\"",
            time.strftime("%d/%b/%Y:%H:%M:%S %z"),
            quoted(&self.method),
            quoted(cut(&self.target)),
            self.status,
            self.bytes_out,
            quoted(cut(self.referer.as_deref().unwrap_or("-"))),
            quoted(cut(self.user_agent.as_deref().unwrap_or("-"))),
        )
        .expect("into memory");
    }
}

/// JSON in which nothing stands that a terminal, or a reader of lines, would obey: JSON itself lets
/// most of that stand in texts.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        writer.write_all(escaped(fragment, &[]).as_bytes())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact for longer than any request lasts"
)]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// The beginning of a text that may be long: 2,048 bytes at most.
#[must_use]
pub fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_MAX))
        .unwrap_or(text)
}

/// A text as httpd writes it between quotes: what could end the field or the line is escaped, and
/// so is each byte that is no visible ASCII.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' => out.push(char::from(byte)),
            byte => write!(out, "\\x{byte:02x}").expect("a text takes what is written"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line() -> Line {
        Line {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            id: "abc".into(),
            client: "127.0.0.1".parse().expect("an address"),
            method: "GET".into(),
            target: "/x?a=\"1\"".into(),
            minor: 1,
            host: Some("h".into()),
            user_agent: Some("me\u{7}".into()),
            referer: None,
            token: Some("me".into()),
            rule: Some(Rule::Route("r1".into())),
            service: Some("s".into()),
            version: Some("base".into()),
            why: Some(Why::Weight),
            endpoint: Some("http://127.0.0.1:1/".into()),
            attempts: 2,
            wait_us: 0,
            connect_us: 1_500,
            first_byte_us: Some(2_000),
            total_us: 3_250,
            bytes_in: 7,
            bytes_out: 42,
            status: 200,
            error: None,
            clock: None,
        }
    }

    fn written(format: Format, line: &Line) -> String {
        let mut out = Vec::new();
        line.write(format, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn json_has_every_field_that_is_known() {
        let text = written(Format::Json, &line());
        assert_eq!(
            text,
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123Z","id":"abc","client":"127.0.0.1","#,
                r#""method":"GET","target":"/x?a=\"1\"","protocol":"HTTP/1.1","host":"h","#,
                r#""user_agent":"me\u0007","token":"me","rule":"r1","service":"s","version":"base","#,
                r#""why":"weight","endpoint":"http://127.0.0.1:1/","attempts":2,"wait_ms":0.0,"#,
                r#""connect_ms":1.5,"first_byte_ms":2.0,"total_ms":3.25,"bytes_in":7,"#,
                r#""bytes_out":42,"status":200}"#,
                "\n"
            )
        );
        let named = Line {
            rule: Some(Rule::Named),
            ..line()
        };
        assert!(written(Format::Json, &named).contains(r#""rule":"named""#));
    }

    #[test]
    fn combined_is_what_log_readers_know() {
        assert_eq!(
            written(Format::Combined, &line()),
            "127.0.0.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /x?a=\\\"1\\\" HTTP/1.1\" 200 42 \
             \"-\" \"me\\x07\"\n"
        );
    }

    /// What strangers send to whoever reads the log.
    const HOSTILE: &str = "%s${jndi:x}\u{1b}[2J\u{9b}2J\u{85}\u{2028}\u{202e}\r\n127.0.0.1 \" 200";

    #[test]
    fn no_text_ends_its_line_or_its_field_or_speaks_to_a_terminal() {
        let hostile = || Some(HOSTILE.into());
        let line = Line {
            target: HOSTILE.into(),
            host: hostile(),
            user_agent: hostile(),
            referer: hostile(),
            token: hostile(),
            ..line()
        };
        let json = written(Format::Json, &line);
        let body = json.strip_suffix('\n').expect("a whole line");
        assert!(!body.contains(crate::model::visible::is_obeyed), "{body:?}");
        let read: serde_json::Value = serde_json::from_str(body).expect("JSON");
        for field in ["target", "host", "user_agent", "referer", "token"] {
            assert_eq!(read[field], HOSTILE, "{field}");
        }
        let combined = written(Format::Combined, &line);
        let body = combined.strip_suffix('\n').expect("a whole line");
        assert!(
            body.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "{body:?}"
        );
        let quotes = body.replace("\\\\", "").replace("\\\"", "");
        assert_eq!(quotes.matches('"').count(), 6, "{body}");
        assert!(
            body.contains(r"\x1b[2J\xc2\x9b2J\xc2\x85\xe2\x80\xa8"),
            "{body}"
        );
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = Line {
            target: "é".repeat(5_000).into(),
            ..line()
        };
        let text = written(Format::Combined, &long);
        assert_eq!(text.matches(r"\xc3\xa9").count(), 1_024);
    }
}
