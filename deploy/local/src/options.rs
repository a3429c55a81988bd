//! What a caller decides about a stack.

use std::path::PathBuf;
use std::time::Duration;

use crate::component::{Component, Components};

/// How a stack is started. `Options::default()` is everything, on free ports, in a temporary folder.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to start.
    pub components: Components,
    /// Where data and logs live. `None`: a temporary folder that is removed when the stack stops or this process dies.
    pub directory: Option<PathBuf>,
    /// Ports that must be used; the others are chosen free.
    pub ports: Ports,
    /// What the Java components are tuned for.
    pub load: Load,
    /// How long a new broker may stand still before the cluster takes it for dead, and its partitions have no leader. Long,
    /// so that a busy machine is no outage.
    pub broker_session: Duration,
    /// The port of 127.0.0.1 where a proxy before the broker listens. The broker then has a second listener
    /// ([`Stack::proxied_broker`](crate::Stack::proxied_broker)), whose clients are sent to that port.
    pub broker_proxy: Option<u16>,
    /// Whether [`Stack::detach`](crate::Stack::detach) will be called; it needs a given folder. Until then the components
    /// still die with this process, unless the supervisor is killed first.
    pub detachable: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            components: Components::ALL,
            directory: None,
            ports: Ports::default(),
            load: Load::Short,
            broker_session: Duration::from_secs(60),
            broker_proxy: None,
            detachable: false,
        }
    }
}

/// Fixed loopback ports; `None` is any free one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// Of the Kafka broker.
    pub kafka: Option<u16>,
    /// Of the schema registry.
    pub registry: Option<u16>,
    /// Of the ClickHouse gateway.
    pub clickhouse: Option<u16>,
}

impl Ports {
    /// The port asked for this component.
    pub fn of(self, component: Component) -> Option<u16> {
        match component {
            Component::Kafka => self.kafka,
            Component::Registry => self.registry,
            Component::ClickHouse => self.clickhouse,
        }
    }
}

/// How long and how hard the stack will work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// Seconds of light work, as in tests: the Java machines compile quickly and superficially.
    #[default]
    Short,
    /// Minutes or millions of records: the full compilers.
    Sustained,
}
