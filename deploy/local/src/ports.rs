//! Free loopback ports.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Below the range from which Linux takes ports for outgoing connections: nobody's connection can take a port between our
/// asking and a component's binding it, and a component that is stopped for a while finds its port free again.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody listens on right now. Another process may still be faster: a start that meets that is repeated.
pub(crate) fn free() -> Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(RANGE);
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("there is no free port on 127.0.0.1 between {} and {}", RANGE.start, RANGE.end)
}

/// Whether nobody listens on this port of the loopback interface.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
