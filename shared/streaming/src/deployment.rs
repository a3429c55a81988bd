//! What tells several deployments of one worker apart: the names under which a cluster knows each of them.

use service::Problems;

/// The longest name of a topic that Kafka takes.
const LONGEST_TOPIC: usize = 249;

/// The internal topics of a pipeline; the last one only where it feeds a table.
pub(crate) const INTERNAL_TOPICS: [&str; 5] = ["repartition", "watermarks", "fold-state", "merge-state", "table"];

/// A worker and its consumer group. Internal topics and transactional ids are named after the group, so deployments with
/// groups of their own share nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    worker: String,
    /// `None` for the default one.
    group: Option<String>,
}

impl Deployment {
    /// `group` as configured: empty for the default, `recwatch.<worker>`.
    #[must_use]
    pub fn new(worker: &str, group: &str) -> Self {
        let is_default = group.is_empty() || group == default_group(worker);
        Self { worker: worker.to_owned(), group: (!is_default).then(|| group.to_owned()) }
    }

    /// The worker's name.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The consumer group.
    #[must_use]
    pub fn group(&self) -> String {
        self.group.clone().unwrap_or_else(|| default_group(&self.worker))
    }

    /// The group where it is not the worker's default one: a part of what alerts are known by.
    #[must_use]
    pub fn own_group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// An internal topic of the pipeline that reads `source_topic`.
    #[must_use]
    pub fn internal_topic(&self, source_topic: &str, what: &str) -> String {
        match &self.group {
            None => format!("recwatch.internal.{}.{source_topic}.{what}", self.worker),
            // two dots, which no group has in its name: `a.b` reading `c` is another deployment than `a` reading `b.c`
            Some(group) => format!("recwatch.internal.{group}..{source_topic}.{what}"),
        }
    }

    /// A transactional id: of one of its instances, and what it does there.
    #[must_use]
    pub fn transactional_id(&self, name: &str) -> String {
        match &self.group {
            None => format!("{}-{name}", self.worker),
            Some(group) => format!("{group}..{name}"),
        }
    }

    /// Checks a configured group together with the source topics, whose names are parts of the internal topics' names.
    pub fn check(problems: &mut Problems, worker: &str, group: &str, source_topics: &[&str]) {
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let dotted = group.contains("..") || group.starts_with('.') || group.ends_with('.');
        if !group.chars().all(named) || dotted || group.len() > LONGEST_TOPIC {
            let allowed = "a part of a topic's name: letters, digits, '_', '-' and single '.' between them; or \"\"";
            problems.add("runtime.group", format!("{group:?}"), allowed);
            return;
        }
        let deployment = Self::new(worker, group);
        for source in source_topics {
            let lengths = INTERNAL_TOPICS.map(|what| deployment.internal_topic(source, what).len());
            let longest = lengths.into_iter().max().unwrap_or_default();
            if longest > LONGEST_TOPIC {
                let allowed = format!(
                    "{} characters less: with the source topic {source:?} an internal topic's name has {longest} \
                     characters, Kafka takes {LONGEST_TOPIC}",
                    longest - LONGEST_TOPIC
                );
                problems.add("runtime.group", format!("{:?}", deployment.group()), allowed);
            }
        }
    }
}

fn default_group(worker: &str) -> String {
    format!("recwatch.{worker}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn problems(group: &str, source: &str) -> usize {
        let mut problems = Problems::new();
        Deployment::check(&mut problems, "toy", group, &[source]);
        problems.len()
    }

    #[test]
    fn the_default_deployment_has_the_names_that_it_always_had() {
        for group in ["", "recwatch.toy"] {
            let deployment = Deployment::new("toy", group);
            assert_eq!(deployment.group(), "recwatch.toy");
            assert_eq!(deployment.internal_topic("shop.web", "table"), "recwatch.internal.toy.shop.web.table");
            assert_eq!(deployment.transactional_id("host-0"), "toy-host-0");
            assert_eq!(deployment.own_group(), None);
        }
    }

    #[test]
    fn no_two_deployments_share_a_name() {
        let groups = ["", "toy", "a", "a.b", "recwatch.toy.b", "toy.b", "b"];
        let sources = ["c", "b.c", "b", "c.d"];
        let mut names = BTreeSet::new();
        for group in groups {
            assert_eq!(problems(group, "c"), 0, "{group}");
            for source in sources {
                let name = Deployment::new("toy", group).internal_topic(source, "repartition");
                assert!(names.insert(name.clone()), "{name} is the name of two");
            }
        }
        let id = |group, name| Deployment::new("toy", group).transactional_id(name);
        assert_ne!(id("team", "a-x-0"), id("team-a", "x-0"));
    }

    #[test]
    fn a_group_that_cannot_be_part_of_a_topics_name_is_refused() {
        for group in ["a b", "a..b", ".a", "a.", "ä", "a/b"] {
            assert_eq!(problems(group, "c"), 1, "{group}");
        }
        let fits = |group: usize, source: usize| problems(&"g".repeat(group), &"s".repeat(source)) == 0;
        // "recwatch.internal." and ".." and ".repartition" take 32
        assert!(fits(100, 117) && !fits(100, 118));
        assert_eq!(problems("", &"s".repeat(249)), 1, "with the default group too");
    }
}
