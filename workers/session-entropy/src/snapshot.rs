//! The bytes of a fold's state.
//!
//! Only what events said is written: times, ids, groups. Scores, bins and summaries are computed again from them, which
//! gives the same bits, since their sums are integers.
//!
//! Layout: version; last closed end; groups' keys; sessions (id, group + 1 or 0 without events in the window, time of
//! the oldest event, gaps); panes (end, events: session, group, distance to the start, event id); examples of groups. Sessions and groups are
//! numbered in the order in which they come.

use grouping::Examples;
use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

use crate::sessions::{Rules, Sessions};
use crate::state::session::Session;

const VERSION: u8 = 1;

/// Appends the state.
pub(crate) fn write(sessions: &Sessions, into: &mut Vec<u8>) {
    into.push(VERSION);
    match sessions.closed {
        None => wire::put_u64(into, 0),
        Some(closed) => {
            wire::put_u64(into, 1);
            wire::put_signed(into, i128::from(closed));
        }
    }

    let mut group_numbers = vec![0_u32; sessions.groups.numbers()];
    wire::put_u64(into, sessions.groups.len() as u64);
    for (number, (index, group)) in (0..).zip(sessions.groups.in_order()) {
        group_numbers[index as usize] = number;
        wire::put_bytes(into, &group.key);
    }

    let mut session_numbers = vec![0_u32; sessions.slab.capacity()];
    wire::put_u64(into, sessions.slab.len() as u64);
    for (number, (index, session)) in (0..).zip(sessions.slab.iter().filter(|(_, session)| session.is_live())) {
        session_numbers[index as usize] = number;
        wire::put_bytes(into, session.id.as_bytes());
        if session.events == 0 {
            wire::put_u64(into, 0);
            continue;
        }
        wire::put_u64(into, u64::from(group_numbers[session.group as usize]) + 1);
        wire::put_signed(into, i128::from(session.oldest));
        wire::put_u64(into, session.gaps.len() as u64);
        session.gaps.iter().for_each(|gap| wire::put_u64(into, u64::from(gap)));
    }

    wire::put_u64(into, sessions.panes.len() as u64);
    for (end, pane) in &sessions.panes {
        wire::put_signed(into, i128::from(*end));
        wire::put_u64(into, pane.events().len() as u64);
        for event in pane.events() {
            wire::put_u64(into, u64::from(session_numbers[event.session as usize]));
            wire::put_u64(into, u64::from(group_numbers[event.group as usize]));
            wire::put_u64(into, u64::from(event.after_start));
            wire::put_bytes(into, pane.event_id(event));
        }
    }
    sessions.examples.write(into);
}

/// Reads a state that [`write`] has written under the same rules.
pub(crate) fn read(bytes: &[u8], rules: Rules) -> Result<Sessions, RestoreError> {
    let mut reader = Reader::new(bytes);
    reader.version(VERSION)?;
    let mut sessions = Sessions::new(rules);
    if reader.u64()? == 1 {
        sessions.closed = Some(reader.time()?);
    }

    let mut groups = Vec::new();
    for _ in 0..reader.u64()? {
        // used once by this list, so that it lives until its sessions have come
        groups.push(sessions.groups.take(reader.bytes()?));
    }
    let group_at = |number: u64| groups.get(number as usize).copied().ok_or_else(|| damaged("an unknown group"));

    let count = reader.u64()?;
    // a session takes three bytes at least: a damaged count reserves no more than the bytes could hold
    let count = usize::try_from(count).ok().filter(|count| *count <= bytes.len() / 2);
    let count = count.ok_or_else(|| damaged("more sessions than bytes"))?;
    let mut indices = Vec::with_capacity(count);
    sessions.reserve(count);
    for _ in 0..count {
        let mut session = Session::new(reader.text()?);
        if let Some(group) = reader.u64()?.checked_sub(1) {
            session.group = group_at(group)?;
            sessions.groups.retain(session.group);
            let mut time = reader.time()?;
            session.append(time, &sessions.rules.scorer);
            for _ in 0..reader.u64()? {
                time = time.saturating_add(i64::from(reader.u32()?));
                session.append(time, &sessions.rules.scorer);
            }
            if sessions.closed.is_none_or(|closed| time > closed) {
                return Err(damaged("an event that counts before its window is closed"));
            }
        } else {
            session.waiting = 1; // this list's, taken back below
        }
        indices.push(sessions.insert(session));
    }

    for _ in 0..reader.u64()? {
        let end = reader.time()?;
        let windows = sessions.rules.windows;
        if windows.pane_end(end) != end || sessions.closed.is_some_and(|closed| end <= closed) {
            return Err(damaged("a pane that is none of this slide's, or is closed"));
        }
        for _ in 0..reader.u64()? {
            let session = usize::try_from(reader.u64()?).ok().and_then(|number| indices.get(number));
            let session = *session.ok_or_else(|| damaged("an unknown session"))?;
            let group = group_at(reader.u64()?)?;
            sessions.groups.retain(group);
            let after_start = reader.u32()?;
            if i64::from(after_start) > windows.slide() {
                return Err(damaged("an event outside of its pane"));
            }
            sessions.wait_in_pane(end, session, after_start, group, reader.bytes()?);
        }
    }
    sessions.examples = Examples::read(&mut reader)?;
    reader.finish()?;

    for index in indices {
        let session = &mut sessions.slab[index];
        if session.events == 0 {
            session.waiting -= 1;
            if session.waiting == 0 {
                return Err(damaged("a session without events"));
            }
        }
    }
    groups.into_iter().for_each(|group| sessions.groups.release(group));
    Ok(sessions)
}
