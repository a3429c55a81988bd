//! Events that wait for the end of their pane.

/// An event above the last closed window end. Sessions are entered in the order of `(hash, id)`, which depends on
/// nothing but the ids, and within one in the order of `(time, event id)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    /// Of the session's id: sessions are ordered by it, as comparing the ids would cost more.
    pub(crate) hash: u32,
    pub(crate) session: u32,
    /// Distance in ms from the start of the pane; slides are shorter than 2^32 ms.
    pub(crate) after_start: u32,
    pub(crate) group: u32,
    event_id_start: u32,
    event_id_length: u32,
}

impl Waiting {
    /// An event of `session`, whose id has this `hash`.
    pub(crate) fn new(hash: u64, session: u32, after_start: u32, group: u32) -> Self {
        Self { hash: (hash >> 32) as u32, session, after_start, group, event_id_start: 0, event_id_length: 0 }
    }
}

/// The events of one pane that is not closed.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    events: Vec<Waiting>,
    event_ids: Vec<u8>,
}

impl Pane {
    pub(crate) fn push(&mut self, mut event: Waiting, event_id: &[u8]) {
        let start = self.event_ids.len();
        event.event_id_start = u32::try_from(start).expect("a pane's event ids are bounded by the memory budget");
        event.event_id_length = event_id.len() as u32;
        self.event_ids.extend_from_slice(event_id);
        self.events.push(event);
    }

    pub(crate) fn event_id(&self, event: &Waiting) -> &[u8] {
        event_id(&self.event_ids, event)
    }

    pub(crate) fn events(&self) -> &[Waiting] {
        &self.events
    }

    /// Sorts by session, time and event id. `id_of` gives a session's id, `key_of` a group's key: should two events
    /// agree in time and id, the greater group is the newer one, so that no order of arrival shows.
    pub(crate) fn sort<'a>(&mut self, id_of: impl Fn(u32) -> &'a [u8], key_of: impl Fn(u32) -> &'a [u8]) {
        let Self { events, event_ids } = self;
        events.sort_unstable_by(|left, right| {
            let by_hash = left.hash.cmp(&right.hash);
            if left.session != right.session {
                return by_hash.then_with(|| id_of(left.session).cmp(id_of(right.session)));
            }
            left.after_start
                .cmp(&right.after_start)
                .then_with(|| event_id(event_ids, left).cmp(event_id(event_ids, right)))
                .then_with(|| key_of(left.group).cmp(key_of(right.group)))
        });
    }

    pub(crate) fn bytes(&self) -> usize {
        self.events.capacity() * size_of::<Waiting>() + self.event_ids.capacity()
    }
}

fn event_id<'a>(event_ids: &'a [u8], event: &Waiting) -> &'a [u8] {
    let start = event.event_id_start as usize;
    &event_ids[start..start + event.event_id_length as usize]
}
