//! Faults: killing a worker at the worst moment, when it has read records that it has not committed.

mod gauges;
mod hunt;

use std::fmt;
use std::str::FromStr;

pub use gauges::{Gauges, fetch, ready};
pub use hunt::{Hunt, Next, uncommitted};

/// Kill one process with SIGKILL, once it has read records that it has not committed, after some lines were published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A worker, or one instance of it.
    pub victim: String,
    /// How many lines are published before.
    pub after_records: u64,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |what: &str| format!("{what}; a fault is kill:WORKER:AFTER_RECORDS, e.g. kill:session-entropy:12000");
        let mut parts = text.split(':');
        let (Some(what), Some(victim), Some(after), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong("it does not have three parts"));
        };
        if what != "kill" {
            return Err(wrong(&format!("{what:?} is no kind of fault")));
        }
        if victim.is_empty() {
            return Err(wrong("the worker is missing"));
        }
        let after_records = after.parse().map_err(|_| wrong(&format!("{after:?} is no number of records")))?;
        Ok(Self { victim: victim.to_owned(), after_records })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kill:{}:{}", self.victim, self.after_records)
    }
}

impl Fault {
    /// Whether `instance` of `worker` may be killed: the fault names it, or the worker as such.
    #[must_use]
    pub fn hits(&self, worker: &str, instance: &str) -> bool {
        self.victim == worker || self.victim == instance
    }
}

/// What a kill has hit, as reported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Kill {
    /// The instance that was killed.
    pub process: String,
    /// Records that it had read since it started.
    pub records_read: u64,
    /// Those of them that no commit covered.
    pub uncommitted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_a_worker_or_one_of_its_instances() {
        let fault: Fault = "kill:session-entropy:12000".parse().unwrap();
        assert_eq!(fault, Fault { victim: "session-entropy".to_owned(), after_records: 12_000 });
        assert_eq!(fault.to_string(), "kill:session-entropy:12000");
        assert!(
            fault.hits("session-entropy", "session-entropy-1") && fault.hits("session-entropy", "session-entropy-2")
        );
        assert!(!fault.hits("clickhouse-writer", "clickhouse-writer"));
        let fault: Fault = "kill:session-entropy-2:0".parse().unwrap();
        assert!(fault.hits("session-entropy", "session-entropy-2"));
        assert!(!fault.hits("session-entropy", "session-entropy-1"));
    }

    #[test]
    fn what_is_no_fault_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("kill", "three parts"),
            ("kill:a:1:2", "three parts"),
            ("stop:a:1", "\"stop\" is no kind"),
            ("kill::1", "worker is missing"),
            ("kill:a:-1", "\"-1\" is no number"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
