//! The things that a schedule does to a run.

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::hostile;
use crate::Component;
use crate::replay::{ROUTER, WRITER};

/// A place in the workers' code where a process can be made to crash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failpoint {
    pub(crate) name: &'static str,
    /// The worker that has it; `None`: all metric workers.
    pub(crate) worker: Option<&'static str>,
    /// How often a process passes it at most before it crashes: as often as it comes there soon after its start.
    pub(crate) passes: u32,
}

const fn failpoint(name: &'static str, worker: Option<&'static str>, passes: u32) -> Failpoint {
    Failpoint { name, worker, passes }
}

/// All of them, but those of `--reset-state`.
pub(crate) const FAILPOINTS: [Failpoint; 7] = [
    failpoint("streaming::produced", None, 6),
    failpoint("streaming::committed", None, 6),
    failpoint("streaming::snapshot_chunk", None, 3),
    failpoint("streaming::restoring", None, 1),
    failpoint("clickhouse_writer::inserted", Some(WRITER), 2),
    failpoint("alert_router::produced", Some(ROUTER), 1),
    failpoint("alert_router::committed", Some(ROUTER), 1),
];

/// One thing that is done to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// SIGKILL; the process starts again later.
    Kill {
        /// Which process.
        instance: String,
        /// When it starts again.
        away: Duration,
    },
    /// SIGSTOP, and SIGCONT when its group has given it up.
    Freeze {
        /// Which process.
        instance: String,
        /// Until SIGCONT.
        lasts: Duration,
    },
    /// SIGTERM; the process starts again later.
    Leave {
        /// Which process.
        instance: String,
        /// When it starts again, at the earliest.
        away: Duration,
    },
    /// One more process, which leaves again.
    Join {
        /// Of which worker.
        worker: String,
        /// The new process.
        instance: String,
        /// Until it leaves.
        stays: Duration,
    },
    /// A component does not answer.
    Outage {
        /// Which one.
        component: Component,
        /// Why.
        how: Outage,
        /// Until it is started again or goes on.
        lasts: Duration,
    },
    /// What lies between the workers and a component does harm.
    Proxy {
        /// Before which component.
        component: Component,
        /// What harm.
        fault: ProxyFault,
        /// Until it does none.
        lasts: Duration,
    },
    /// An operator changes a topic, and changes it back.
    Alter {
        /// What is changed.
        alteration: Alteration,
        /// Until it is changed back.
        lasts: Duration,
    },
    /// Bad records come between the good ones.
    Hostile {
        /// Which ones.
        records: Vec<hostile::Planned>,
    },
    /// A process is restarted, and crashes in the middle of something.
    Crash {
        /// Which process.
        instance: String,
        /// Where.
        failpoint: &'static str,
        /// After it came there so often.
        after: u32,
        /// Until it is restarted without, where it did not come there.
        lasts: Duration,
    },
}

/// How a component fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// SIGKILL, and a start on the same data.
    Kill,
    /// An orderly end, and a start on the same data.
    Stop,
    /// SIGSTOP and SIGCONT.
    Freeze,
}

/// What a proxy does to what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// Closes connections at once.
    Refuse,
    /// Keeps everything back until the fault is over.
    Hang,
    /// Lets requests through, and cuts the connection instead of answering: every n-th time.
    CutAfterEffect(u32),
    /// Answers by itself, and passes nothing on.
    Answer(Canned),
    /// Delays each piece.
    Slow(Duration),
}

/// An answer that does not come from who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canned {
    /// 500 with a page.
    ServerError,
    /// 503 with a page.
    Unavailable,
    /// 200 of a server that has nothing to do with us.
    SomebodyElse,
    /// No HTTP, and no Kafka.
    Garbage,
}

impl Canned {
    const ALL: [Self; 4] = [Self::ServerError, Self::Unavailable, Self::SomebodyElse, Self::Garbage];

    /// Its bytes.
    pub(super) fn bytes(self) -> Vec<u8> {
        let page = |status: &str, text: &str| {
            let body = format!("<html><head><title>{text}</title></head><body>{text}</body></html>\n");
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status}\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: {length}");
            format!("{head}\r\nConnection: close\r\n\r\n{body}").into_bytes()
        };
        match self {
            Self::ServerError => page("500 Internal Server Error", "Internal Server Error"),
            Self::Unavailable => page("503 Service Unavailable", "Service Temporarily Unavailable"),
            Self::SomebodyElse => page("200 OK", "Welcome to nginx!"),
            Self::Garbage => (0..700_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        }
    }
}

impl ProxyFault {
    /// One of those that make sense before a component.
    pub(super) fn any(component: Component, random: &mut ChaCha8Rng) -> Self {
        // Kafka's clients take no HTTP: any bytes are garbage to them.
        let canned = if component == Component::Kafka { &Canned::ALL[3..] } else { &Canned::ALL[..] };
        match random.random_range(0..5) {
            0 => Self::Refuse,
            1 => Self::Hang,
            2 => Self::CutAfterEffect(random.random_range(1..5)),
            3 => Self::Answer(*canned.choose(random).unwrap_or(&Canned::Garbage)),
            _ => Self::Slow(Duration::from_millis(random.random_range(20..200))),
        }
    }

    /// How many kinds there are before a component.
    #[cfg(test)]
    pub(super) fn kinds(_component: Component) -> usize {
        5
    }
}

/// What is changed of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alteration {
    /// The state of a worker is compacted all the time, in small segments.
    CompactState,
    /// The rows of sessions are in small segments.
    SplitRows,
    /// The interactions are in small segments, and expire after a day.
    SplitSource,
}

impl Alteration {
    /// All there are.
    pub(super) const ALL: [Self; 3] = [Self::CompactState, Self::SplitRows, Self::SplitSource];
}

impl fmt::Display for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CompactState => "state topics are compacted at once",
            Self::SplitRows => "the row topics' segments are small",
            Self::SplitSource => "the source topics' segments are small, retention is a day",
        })
    }
}

impl Action {
    /// From its beginning until it is healed.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Kill { away, .. } | Self::Leave { away, .. } => *away,
            Self::Join { stays, .. } => *stays,
            Self::Freeze { lasts, .. }
            | Self::Outage { lasts, .. }
            | Self::Proxy { lasts, .. }
            | Self::Alter { lasts, .. }
            | Self::Crash { lasts, .. } => *lasts,
            Self::Hostile { .. } => Duration::ZERO,
        }
    }

    /// What is disturbed: a process or a component.
    #[must_use]
    pub fn target(&self) -> Option<String> {
        match self {
            Self::Kill { instance, .. }
            | Self::Freeze { instance, .. }
            | Self::Leave { instance, .. }
            | Self::Join { instance, .. }
            | Self::Crash { instance, .. } => Some(instance.clone()),
            Self::Outage { component, .. } | Self::Proxy { component, .. } => Some(component.name().to_owned()),
            Self::Alter { .. } | Self::Hostile { .. } => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |duration: &Duration| format!("{:.1} s", duration.as_secs_f64());
        match self {
            Self::Kill { instance, away } => write!(f, "SIGKILL {instance}, back after {}", seconds(away)),
            Self::Freeze { instance, lasts } => write!(f, "SIGSTOP {instance}, SIGCONT after {}", seconds(lasts)),
            Self::Leave { instance, away } => write!(f, "SIGTERM {instance}, back after {}", seconds(away)),
            Self::Join { instance, stays, .. } => write!(f, "{instance} joins, and leaves after {}", seconds(stays)),
            Self::Outage { component, how, lasts } => {
                let how = match how {
                    Outage::Kill => "is killed",
                    Outage::Stop => "is stopped",
                    Outage::Freeze => "is frozen",
                };
                write!(f, "{component} {how}, goes on after {}", seconds(lasts))
            }
            Self::Proxy { component, fault, lasts } => {
                write!(f, "proxy of {component}: {fault:?} for {}", seconds(lasts))
            }
            Self::Alter { alteration, lasts } => write!(f, "{alteration}, for {}", seconds(lasts)),
            Self::Hostile { records } => {
                f.write_str("hostile records:")?;
                records.iter().try_for_each(|record| write!(f, " {record};"))
            }
            Self::Crash { instance, failpoint, after, lasts } => {
                write!(f, "{instance} crashes at {failpoint} after {after} passes, within {}", seconds(lasts))
            }
        }
    }
}
