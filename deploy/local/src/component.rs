//! Which real components a stack is made of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One component of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// The Kafka broker (KRaft, one node).
    Kafka,
    /// Apicurio with Confluent's schema registry API.
    Registry,
    /// The ClickHouse engine behind its HTTP gateway.
    ClickHouse,
}

impl Component {
    /// All components, in the order in which they are listed to people.
    pub const ALL: [Component; 3] = [Component::Kafka, Component::Registry, Component::ClickHouse];

    /// The name of its files, its row in `status` and its progress line.
    pub fn name(self) -> &'static str {
        match self {
            Component::Kafka => "kafka",
            Component::Registry => "registry",
            Component::ClickHouse => "clickhouse",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A selection of components.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Components {
    /// The Kafka broker.
    pub kafka: bool,
    /// The schema registry.
    pub registry: bool,
    /// The ClickHouse engine.
    pub clickhouse: bool,
}

impl Components {
    /// Nothing: components may still be started later, one by one.
    pub const NONE: Components = Components { kafka: false, registry: false, clickhouse: false };
    /// The broker alone.
    pub const KAFKA: Components = Components { kafka: true, registry: false, clickhouse: false };
    /// Everything.
    pub const ALL: Components = Components { kafka: true, registry: true, clickhouse: true };

    /// Whether the selection holds this component.
    pub fn contains(self, component: Component) -> bool {
        match component {
            Component::Kafka => self.kafka,
            Component::Registry => self.registry,
            Component::ClickHouse => self.clickhouse,
        }
    }

    /// The selected components.
    pub fn iter(self) -> impl Iterator<Item = Component> {
        Component::ALL.into_iter().filter(move |component| self.contains(*component))
    }
}
