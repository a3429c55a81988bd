//! The proxies of one run: one before each component.

use anyhow::{Context, Result};

use super::action::ProxyFault;
use super::proxy::Proxy;
use crate::replay::Addresses;
use crate::{Component, Stack, free_port};

/// A proxy before each component.
pub(crate) struct Proxies([Proxy; Component::ALL.len()]);

/// `HOST:PORT` and what follows of `http://HOST:PORT/PATH`.
fn parts(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    rest.split_at(rest.find('/').unwrap_or(rest.len()))
}

impl Proxies {
    /// Proxies before a stack that was started with `broker` as its `broker_proxy`.
    ///
    /// # Errors
    /// A port is taken.
    pub(crate) fn start(stack: &Stack, broker: u16) -> Result<Self> {
        let listener = stack.proxied_broker().context("the broker has no listener for a proxy")?;
        let (registry, clickhouse) = (stack.registry_url(), stack.clickhouse_url());
        Ok(Self([
            Proxy::start(broker, &listener)?,
            Proxy::start(free_port()?, parts(&registry).0)?,
            Proxy::start(free_port()?, parts(&clickhouse).0)?,
        ]))
    }

    /// Where clients find the components through the proxies.
    pub(crate) fn addresses(&self, stack: &Stack) -> Addresses {
        let at = |component: Component| format!("127.0.0.1:{}", self.before(component).port());
        Addresses {
            brokers: at(Component::Kafka),
            registry: format!("http://{}{}", at(Component::Registry), parts(&stack.registry_url()).1),
            clickhouse: format!("http://{}", at(Component::ClickHouse)),
        }
    }

    /// Does harm before a component, or none.
    pub(crate) fn set(&self, component: Component, fault: Option<ProxyFault>) {
        self.before(component).set(fault);
    }

    /// How often the faults before a component have hit something.
    pub(crate) fn hits(&self, component: Component) -> u64 {
        self.before(component).hits()
    }

    fn before(&self, component: Component) -> &Proxy {
        &self.0[component as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_behind_its_port() {
        assert_eq!(parts("http://127.0.0.1:80/apis/v7"), ("127.0.0.1:80", "/apis/v7"));
        assert_eq!(parts("http://127.0.0.1:80"), ("127.0.0.1:80", ""));
    }
}
