//! One event as one line.

use std::fmt::{self, Write};

use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Logged};
use super::text;
use crate::sections::LogFormat;

/// Writes events; nothing in a field can look like another line or another field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) format: LogFormat,
}

/// What a line says about its event beside the fields.
struct Heading<'a> {
    time: String,
    level: Level,
    target: &'a str,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let of_log = event.normalized_metadata();
        let metadata = of_log.as_ref().unwrap_or_else(|| event.metadata());
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let heading = Heading { time, level: *metadata.level(), target: metadata.target() };
        let mut fields = Fields::default();
        event.record(&mut fields);
        match self.format {
            LogFormat::Human => {
                let colours = out.has_ansi_escapes();
                human(&heading, &fields, colours, &mut out)?;
            }
            LogFormat::Json => json(&heading, &fields, &mut out)?,
        }
        out.write_char('\n')
    }
}

fn human(heading: &Heading<'_>, fields: &Fields, colours: bool, out: &mut dyn Write) -> fmt::Result {
    let Heading { time, level, target } = heading;
    let colour = match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    if colours {
        write!(out, "{time} \x1b[{colour}m{level:>5}\x1b[0m {target}:")?;
    } else {
        write!(out, "{time} {level:>5} {target}:")?;
    }
    if let Some(message) = &fields.message {
        out.write_char(' ')?;
        text::write_plain(message, out)?;
    }
    for (name, value) in &fields.others {
        write!(out, " {name}=")?;
        match value {
            Logged::Plain(value) => out.write_str(value)?,
            Logged::Text(value) => text::write_value(value, false, out)?,
            Logged::Formatted(value) => text::write_value(value, true, out)?,
        }
    }
    Ok(())
}

fn json(heading: &Heading<'_>, fields: &Fields, out: &mut dyn Write) -> fmt::Result {
    let Heading { time, level, target } = heading;
    write!(out, "{{\"timestamp\":\"{time}\",\"level\":\"{level}\"")?;
    if let Some(message) = &fields.message {
        out.write_str(",\"message\":")?;
        text::write_json(message, out)?;
    }
    for (name, value) in &fields.others {
        // A field must not take the place of what the line says itself.
        let prefix = if ["timestamp", "level", "message", "target"].contains(name) { "field." } else { "" };
        write!(out, ",\"{prefix}{name}\":")?;
        match value {
            Logged::Plain(value) => out.write_str(value)?,
            Logged::Text(value) | Logged::Formatted(value) => text::write_json(value, out)?,
        }
    }
    out.write_str(",\"target\":")?;
    text::write_json(target, out)?;
    out.write_char('}')
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::logging::text::MAX_BYTES;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes in `format`.
    fn written(format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(Line { format })
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(std::mem::take(&mut lines.0.lock().unwrap())).unwrap()
    }

    /// What `log` writes for people, behind time, level and place.
    fn human_line(log: impl FnOnce()) -> String {
        let line = written(LogFormat::Human, log);
        let (_, behind) = line.split_once("tests: ").unwrap();
        behind.to_owned()
    }

    const HOSTILE: &str =
        "x\n2026-01-01T00:00:00Z ERROR recwatch: forged\r\u{1b}[2J\u{9b}31m\u{2028}\u{202e}\" y=\"z\\";
    const QUOTED: &str =
        r#""x\n2026-01-01T00:00:00Z ERROR recwatch: forged\r\u{1b}[2J\u{9b}31m\u{2028}\u{202e}\" y=\"z\\""#;

    #[test]
    fn a_value_from_outside_is_quoted_whatever_it_holds_and_however_it_is_logged() {
        for line in [
            human_line(|| tracing::warn!(value = HOSTILE, "seen")),
            human_line(|| tracing::warn!(value = %HOSTILE, "seen")),
        ] {
            assert_eq!(line, format!("seen value={QUOTED}\n"));
        }
        let message = HOSTILE;
        for line in [human_line(|| tracing::warn!(message, "seen")), human_line(|| tracing::warn!(%message, "seen"))] {
            assert_eq!(line, format!("seen message={QUOTED}\n"));
        }
        assert_eq!(human_line(|| tracing::warn!(message = HOSTILE)), format!("message={QUOTED}\n"));
        let within = human_line(|| tracing::warn!("seen: {HOSTILE}"));
        assert_eq!(within.matches('\n').count(), 1, "{within:?}");
        assert!(!within.trim_end().contains(char::is_control), "{within:?}");
    }

    #[test]
    fn words_and_numbers_stay_readable() {
        let topic = "recwatch.alerts.v1";
        let line = human_line(|| tracing::warn!(%topic, partition = 3, share = 0.5, up = true, none = "", "seen"));
        assert_eq!(line, "seen topic=recwatch.alerts.v1 partition=3 share=0.5 up=true none=\"\"\n");
        assert_eq!(human_line(|| tracing::warn!(name = "हिन्दी é", "seen")), "seen name=\"हिन्दी é\"\n");
    }

    #[test]
    fn json_lines_keep_every_field_and_none_replaces_what_the_line_says_itself() {
        let (message, level) = (HOSTILE, "FORGED");
        let line = written(LogFormat::Json, || tracing::warn!(message, level, count = 2, nan = f64::NAN, "seen"));
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.trim_end().contains(char::is_control), "{line:?}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["message"], &value["level"]), (&"seen".into(), &"WARN".into()));
        assert_eq!((&value["field.message"], &value["field.level"]), (&HOSTILE.into(), &"FORGED".into()));
        assert_eq!((&value["count"], &value["nan"]), (&2.into(), &"NaN".into()));
        assert_eq!(value["target"], "service::logging::line::tests");
    }

    #[test]
    fn a_long_value_is_cut_with_a_mark() {
        let long = "é".repeat(MAX_BYTES);
        for format in [LogFormat::Human, LogFormat::Json] {
            let line = written(format, || tracing::warn!(value = long, error = %long, "{long}"));
            assert!(line.len() < 4 * MAX_BYTES, "{}", line.len());
            assert_eq!(line.matches(&format!("… ({MAX_BYTES} bytes more)")).count(), 3);
        }
    }
}
