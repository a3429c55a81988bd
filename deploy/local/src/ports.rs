//! Free loopback ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the range from which Linux takes ports for outgoing connections: nobody's connection can take a port between our
/// asking and a component's binding it, and a component that is stopped for a while finds its port free again.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A loopback port that nobody listens on right now. They are handed out in turn: within a process nobody is given the port
/// that another one was given and has not bound yet. Another process may still be faster to bind it.
///
/// # Errors
/// All ports of the range are taken.
pub fn free_port() -> Result<u16> {
    // processes begin at different places, so that they seldom meet
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(RANGE)));
    let following = |port: u16| if port + 1 < RANGE.end { port + 1 } else { RANGE.start };
    for _ in RANGE {
        let update = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| Some(following(port)));
        let (Ok(port) | Err(port)) = update;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("there is no free port on 127.0.0.1 between {} and {}", RANGE.start, RANGE.end)
}

/// A free port for a component that listens on `port` as well, which need not be bound yet.
pub(crate) fn free_port_beside(port: u16) -> Result<u16> {
    let free = free_port()?;
    if free == port { free_port() } else { Ok(free) }
}

/// Whether nobody listens on this port of the loopback interface.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        // of so many random ports of the range some 40 would be
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| (0..250).map(|_| free_port().unwrap()).collect::<Vec<_>>())).collect();
        let ports: Vec<u16> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ports.iter().all(|port| RANGE.contains(port)), "{ports:?}");
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 1000);
    }

    #[test]
    fn a_component_that_listens_twice_is_given_two_ports() {
        for _ in 0..100 {
            // what is handed out next, if no other test is faster
            let port = free_port().unwrap() + 1;
            assert_ne!(free_port_beside(port).unwrap(), port);
        }
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let port = free_port().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }
}
