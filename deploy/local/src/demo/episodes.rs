//! The alerts that the generator's episodes must lead to: each once, of the group that it is about, and over in the end.

use crate::routes::Told;

/// The alert of one episode.
#[derive(Debug)]
struct Episode {
    kind: &'static str,
    rule: &'static str,
    /// By name of the dimension.
    group: &'static [(&'static str, &'static str)],
    /// What happens, for people.
    what: &'static str,
}

const EPISODES: [Episode; 6] = [
    Episode {
        kind: "threshold",
        rule: "freshness-scattered",
        group: &[("domain", "fashion"), ("user_segment", "returning")],
        what: "sessions of returning shoppers of fashion scatter",
    },
    Episode {
        kind: "threshold",
        rule: "half-life-halved",
        group: &[("domain", "electronics")],
        what: "vectors of electronics jump",
    },
    Episode {
        kind: "threshold",
        rule: "gamma-high",
        group: &[("kind", "pair"), ("sources", "books"), ("target", "fashion")],
        what: "the readers' taste drifts away",
    },
    Episode {
        kind: "deviation",
        rule: "sessions-rush",
        group: &[("domain", "grocery"), ("user_segment", "new")],
        what: "new shoppers come to grocery in a rush",
    },
    Episode {
        kind: "absence",
        rule: "vectors-absent",
        group: &[("domain", "grocery")],
        what: "no vectors of grocery are published",
    },
    Episode {
        kind: "change",
        rule: "likeness-fallen",
        group: &[("domain", "fashion")],
        what: "items of all departments are met in fashion",
    },
];

/// What happens, and which rule finds it, a line each.
pub(super) fn list() -> String {
    let line = |episode: &Episode| format!("{:<10} {:<20} {}\n", episode.kind, episode.rule, episode.what);
    EPISODES.iter().map(line).collect()
}

/// What was not told as it must be, of all that was told in its order; empty where all was.
pub(super) fn problems(told: &[Told]) -> Vec<String> {
    let mut problems: Vec<String> = EPISODES.iter().filter_map(|episode| episode.problem(told)).collect();
    let others = told.iter().filter(|told| told.firing && !EPISODES.iter().any(|episode| episode.is_told_by(told)));
    problems.extend(others.map(|told| {
        format!("{} fired of {} at {}, where nothing happened", told.rule, told.place(), told.time_of_day())
    }));
    problems
}

impl Episode {
    fn is_told_by(&self, told: &Told) -> bool {
        let group = told.group.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        told.rule == self.rule && told.kind == self.kind && group.eq(self.group.iter().copied())
    }

    fn problem(&self, told: &[Told]) -> Option<String> {
        let ours: Vec<&Told> = told.iter().filter(|told| self.is_told_by(told)).collect();
        let wrong = match ours.as_slice() {
            [firing, end] if firing.firing && !end.firing && firing.alert_id == end.alert_id => {
                if self.carries(&firing.attribution) {
                    return None;
                }
                format!("was told to be carried by {:?}, and not by its own group", firing.attribution)
            }
            [] => "was not told".to_owned(),
            _ => {
                let course: Vec<String> = ours
                    .iter()
                    .map(|told| format!("{} at {}", if told.firing { "fired" } else { "over" }, told.time_of_day()))
                    .collect();
                format!("must fire once and be over once, but: {}", course.join(", "))
            }
        };
        let group: Vec<String> = self.group.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(format!(
            "The episode in which {} ({}, rule {}, {}) {wrong}",
            self.what,
            self.kind,
            self.rule,
            group.join(", ")
        ))
    }

    /// Whether what is said to carry it first are values of the group, and nothing else: `domain=books (97 %), …`.
    fn carries(&self, attribution: &str) -> bool {
        let Some((first, _)) = attribution.split_once(" (") else { return false };
        let Some((dimensions, values)) = first.split_once('=') else { return false };
        let mut pairs = dimensions.split('+').zip(values.split('+'));
        dimensions.split('+').count() == values.split('+').count() && pairs.all(|pair| self.group.contains(&pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(episode: &Episode, firing: bool) -> Told {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let (name, value) = episode.group[0];
        Told {
            alert_id: episode.rule.to_owned(),
            sequence: if firing { 1 } else { 2 },
            firing,
            kind: episode.kind.to_owned(),
            rule: episode.rule.to_owned(),
            severity: "warning".to_owned(),
            group: episode.group.iter().map(owned).collect(),
            summary: String::new(),
            attribution: format!("{name}={value} (93 %), x=y (90 %)"),
            window_end: "2026-11-21T03:05:00.000Z".to_owned(),
        }
    }

    fn all() -> Vec<Told> {
        EPISODES.iter().flat_map(|episode| [told(episode, true), told(episode, false)]).collect()
    }

    #[test]
    fn all_is_well_where_each_episode_fires_once_and_is_over() {
        assert_eq!(problems(&all()), [""; 0]);
    }

    #[test]
    fn an_episode_that_is_not_told_told_twice_or_not_over_is_named() {
        let mut some = all();
        some.drain(..2);
        some.extend([told(&EPISODES[1], true), told(&EPISODES[1], false)]);
        some.pop_if(|told| !told.firing);
        let problems = problems(&some);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("freshness-scattered") && problems[0].ends_with("was not told"), "{problems:?}");
        let course = "fired at 03:05:00, over at 03:05:00, fired at 03:05:00";
        assert!(problems[1].contains("half-life-halved") && problems[1].ends_with(course), "{problems:?}");
    }

    #[test]
    fn alerts_of_quiet_groups_and_wrong_causes_are_named() {
        let mut some = all();
        some[0].attribution = "domain=fashion, grocery (93 %)".to_owned();
        some[2].attribution = "domain+x=electronics+y (93 %)".to_owned();
        let mut quiet = told(&EPISODES[0], true);
        quiet.group[0].1 = "books".to_owned();
        some.push(quiet);
        let problems = problems(&some);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("\"domain=fashion, grocery (93 %)\""), "{problems:?}");
        assert!(problems[1].contains("domain+x=electronics+y"), "{problems:?}");
        assert!(problems[2].contains("of domain=books, user_segment=returning at 03:05:00"), "{problems:?}");
    }
}
