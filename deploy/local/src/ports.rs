//! Free loopback ports.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Below the range from which Linux takes ports for outgoing connections: nobody's connection can take a port between our
/// asking and a component's binding it, and a component that is stopped for a while finds its port free again.
const RANGE: Range<u16> = 20_000..32_000;

/// Ports that a process claims at once.
const BLOCK: u16 = 100;

/// What this process has claimed, and which of it are still to be handed out.
struct Claimed {
    locks: Vec<File>,
    ports: Range<u16>,
}

/// A loopback port that nobody listens on right now. Each is handed out once: nobody of this user, in this process or
/// another one, is given the port that another one was given and has not bound yet.
///
/// # Errors
/// All ports of the range are taken, or the temporary folder cannot be written.
pub fn free_port() -> Result<u16> {
    static CLAIMED: Mutex<Claimed> = Mutex::new(Claimed { locks: Vec::new(), ports: 0..0 });
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(port) = claimed.ports.find(|port| is_free(*port)) {
            return Ok(port);
        }
        let (lock, ports) = claim()?;
        claimed.locks.push(lock);
        claimed.ports = ports;
    }
}

/// Locks a block of ports that no process has; the lock ends with this process.
fn claim() -> Result<(File, Range<u16>)> {
    let directory = std::env::temp_dir().join(format!("recwatch-ports-{}", rustix::process::getuid().as_raw()));
    fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let blocks = (RANGE.end - RANGE.start) / BLOCK;
    // anywhere, so that those of another user are seldom met
    let first = rand::random_range(0..blocks);
    for block in (first..blocks).chain(0..first) {
        let start = RANGE.start + block * BLOCK;
        let path = directory.join(start.to_string());
        let lock = File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
        if lock.try_lock().is_ok() {
            return Ok((lock, start..start + BLOCK));
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
    fn no_block_is_claimed_twice() {
        // a file that is opened twice is locked once, as between processes
        let claims: Vec<_> = (0..20).map(|_| claim().unwrap()).collect();
        let blocks: BTreeSet<u16> = claims.iter().map(|(_, ports)| ports.start).collect();
        assert_eq!(blocks.len(), 20);
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
