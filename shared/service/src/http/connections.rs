//! Which connections are open, and which one has to make room.

use std::collections::BTreeMap;

/// Open connections, at most `limit`. `H` ends a connection.
#[derive(Debug)]
pub(super) struct Connections<H> {
    limit: usize,
    /// By number: the oldest first.
    open: BTreeMap<u64, Open<H>>,
    next: u64,
}

#[derive(Debug)]
struct Open<H> {
    handle: H,
    /// Whether a whole request head has come, so that it is being answered.
    is_answered: bool,
}

impl<H> Connections<H> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: BTreeMap::new(), next: 0 }
    }

    /// The number of the next connection.
    pub(super) fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A new connection is always let in. Where there are too many, the oldest one that has sent no whole request head
    /// has to go, or else the oldest of all: who sends a request at once is answered, however many others send none.
    pub(super) fn admit(&mut self, number: u64, handle: H) -> Option<H> {
        let evicted = if self.open.len() >= self.limit { self.evict() } else { None };
        self.open.insert(number, Open { handle, is_answered: false });
        evicted
    }

    fn evict(&mut self) -> Option<H> {
        let unfinished = self.open.iter().find(|(_, open)| !open.is_answered).map(|(number, _)| *number);
        let number = unfinished.or_else(|| self.open.keys().next().copied())?;
        self.open.remove(&number).map(|open| open.handle)
    }

    /// A whole request head has come.
    pub(super) fn request_read(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            open.is_answered = true;
        }
    }

    pub(super) fn closed(&mut self, number: u64) {
        self.open.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(connections: &mut Connections<u64>) -> Option<u64> {
        let number = connections.next_number();
        connections.admit(number, number)
    }

    #[test]
    fn the_oldest_connection_without_a_request_makes_room_and_one_that_is_answered_stays() {
        let mut connections = Connections::new(3);
        assert_eq!([admit(&mut connections), admit(&mut connections), admit(&mut connections)], [None; 3]);
        connections.request_read(1);
        assert_eq!(admit(&mut connections), Some(2));
        assert_eq!(admit(&mut connections), Some(3));
        connections.closed(4);
        assert_eq!(admit(&mut connections), None);
    }

    #[test]
    fn where_all_are_answered_the_oldest_makes_room() {
        let mut connections = Connections::new(2);
        admit(&mut connections);
        admit(&mut connections);
        connections.request_read(1);
        connections.request_read(2);
        assert_eq!(admit(&mut connections), Some(1));
    }
}
