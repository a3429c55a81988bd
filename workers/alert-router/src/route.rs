//! The routing tree: which receivers are told of an alert, in which groups, and how often.

use crate::labels::{GroupBy, Labels};
use crate::matcher::Matcher;

/// When the groups of a route tell, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From a group's first alert to its first notification.
    pub group_wait: i64,
    /// From a notification to the next one that has something new.
    pub group_interval: i64,
    /// From a notification to its repetition.
    pub repeat_interval: i64,
}

/// A node of the tree.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its number in the tree, parents before children.
    pub index: usize,
    /// Where it stands in the configuration: `route.routes[1]`.
    pub place: String,
    /// The matchers on the way to it, as Alertmanager names a route: `{}/{severity="critical"}`.
    pub path: String,
    /// All of them must hold.
    pub matchers: Vec<Matcher>,
    /// Whether siblings behind it are asked after it has matched.
    pub goes_on: bool,
    /// Index of the receiver.
    pub receiver: usize,
    /// What tells its groups apart.
    pub group_by: GroupBy,
    /// When its groups tell.
    pub timing: Timing,
    /// Names of the mute times in which it tells nobody.
    pub mute_times: Vec<String>,
    /// More specific routes, in order.
    pub routes: Vec<Route>,
}

/// What the tree does with an alert, for people.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'r> {
    /// All matchers hold.
    Matched,
    /// This one does not.
    Failed(&'r Matcher),
    /// A sibling before it has matched and does not `continue`.
    NotAsked,
}

impl Route {
    /// The routes that an alert takes: of the nodes that match, those of which no child does.
    pub fn matching<'r>(&'r self, labels: &Labels<'_>, found: &mut Vec<&'r Route>) -> bool {
        if !labels.fulfil(&self.matchers) {
            return false;
        }
        let before = found.len();
        for route in &self.routes {
            if route.matching(labels, found) && !route.goes_on {
                break;
            }
        }
        if found.len() == before {
            found.push(self);
        }
        true
    }

    /// Tells `visit` of every node what becomes of it, parents first; `depth` is that of this node.
    pub fn explain<'r>(
        &'r self,
        labels: &Labels<'_>,
        depth: usize,
        visit: &mut impl FnMut(&'r Route, usize, Step<'r>),
    ) {
        if let Some(matcher) = labels.failing(&self.matchers) {
            return visit(self, depth, Step::Failed(matcher));
        }
        visit(self, depth, Step::Matched);
        let mut ended = false;
        for route in &self.routes {
            if ended {
                visit(route, depth + 1, Step::NotAsked);
                continue;
            }
            route.explain(labels, depth + 1, visit);
            ended = !route.goes_on && labels.fulfil(&route.matchers);
        }
    }

    /// This node and all below it.
    pub fn all(&self) -> Vec<&Route> {
        let mut nodes = vec![self];
        for route in &self.routes {
            nodes.extend(route.all());
        }
        nodes
    }

    /// The name of the group that an alert with these labels belongs to.
    #[must_use]
    pub fn group_key(&self, labels: &Labels<'_>) -> String {
        format!("{}:{}", self.path, labels.selected(&self.group_by))
    }
}

#[cfg(test)]
mod tests {
    use super::{Route, Step, Timing};
    use crate::labels::{GroupBy, Labels};
    use crate::matcher::Matcher;

    fn route(place: &str, matchers: &[&str], goes_on: bool, routes: Vec<Route>) -> Route {
        Route {
            index: 0,
            place: place.to_owned(),
            path: "{}".to_owned(),
            matchers: matchers.iter().map(|text| Matcher::parse(text).unwrap()).collect(),
            goes_on,
            receiver: 0,
            group_by: GroupBy::Names(vec!["rule".to_owned(), "domain".to_owned()]),
            timing: Timing { group_wait: 0, group_interval: 1, repeat_interval: 1 },
            mute_times: Vec::new(),
            routes,
        }
    }

    fn taken(tree: &Route, severity: &'static str, domain: &'static str) -> Vec<String> {
        let alert = crate::core::tests::alert(1, "rule", severity, domain);
        let mut found = Vec::new();
        tree.matching(&Labels::of(&alert), &mut found);
        found.iter().map(|route| route.place.clone()).collect()
    }

    /// The example of Alertmanager's documentation, in our labels.
    #[test]
    fn the_deepest_matching_nodes_are_taken_and_continue_asks_the_next_sibling() {
        let tree = route(
            "root",
            &[],
            false,
            vec![
                route("log", &["severity=~\".+\""], true, vec![]),
                route("page", &["severity=critical"], false, vec![route("books", &["domain=books"], false, vec![])]),
                route("rest", &["severity=~\"critical|warning\""], false, vec![]),
            ],
        );
        assert_eq!(taken(&tree, "critical", "books"), ["log", "books"]);
        assert_eq!(taken(&tree, "critical", "films"), ["log", "page"]);
        assert_eq!(taken(&tree, "warning", "films"), ["log", "rest"]);
        assert_eq!(taken(&tree, "info", "films"), ["log"]);
        assert_eq!(taken(&tree, "", "films"), ["root"], "what no child takes, the root does");
    }

    #[test]
    fn each_node_is_explained() {
        let tree = route(
            "root",
            &[],
            false,
            vec![
                route("a", &["severity=info"], false, vec![]),
                route("b", &["severity=warning"], false, vec![]),
                route("c", &[], false, vec![]),
            ],
        );
        let alert = crate::core::tests::alert(1, "rule", "warning", "books");
        let mut told = Vec::new();
        tree.explain(&Labels::of(&alert), 0, &mut |route, depth, step| {
            let step = match step {
                Step::Matched => "matched".to_owned(),
                Step::Failed(matcher) => matcher.to_string(),
                Step::NotAsked => "not asked".to_owned(),
            };
            told.push((route.place.as_str(), depth, step));
        });
        let expected =
            [("root", 0, "matched"), ("a", 1, "severity=\"info\""), ("b", 1, "matched"), ("c", 1, "not asked")];
        assert_eq!(told, expected.map(|(place, depth, step)| (place, depth, step.to_owned())));
        assert_eq!(tree.group_key(&Labels::of(&alert)), r#"{}:{domain="books", rule="rule"}"#);
    }
}
