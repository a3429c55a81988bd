//! The bytes of a fold's state.
//!
//! Only what events said is written: who has which vector since when, the vector as its places. Sums are computed again
//! from them, which gives the same bits, since they are integers.
//!
//! Layout: version; last closed end; users (domain, id, whether a vector counts: end of its pane, version); panes (end,
//! updates: user, time, event id, version); examples of domains. A version is its places, and its vector where samples are taken. Users are
//! numbered in the order in which they come.

use grouping::Examples;
use storage::Text;
use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

use crate::pane::Update;
use crate::users::{Current, Rules, Users};
use crate::versions::Versions;

const VERSION: u8 = 1;

/// Appends the state.
pub(crate) fn write(users: &Users, into: &mut Vec<u8>) {
    into.push(VERSION);
    put_optional(into, users.closed);

    let mut numbers = vec![0_u32; users.slab.capacity()];
    wire::put_u64(into, users.slab.len() as u64);
    for (number, (index, user)) in (0..).zip(users.slab.iter().filter(|(_, user)| Users::is_live(user))) {
        numbers[index as usize] = number;
        wire::put_bytes(into, users.domains[user.domain].name.as_bytes());
        wire::put_bytes(into, user.id.as_bytes());
        put_optional(into, user.current.map(|current| current.pane_end));
        if let Some(current) = user.current {
            put_version(into, &users.versions, current.version);
        }
    }

    wire::put_u64(into, users.panes.len() as u64);
    for (end, pane) in &users.panes {
        wire::put_signed(into, i128::from(*end));
        wire::put_u64(into, pane.len() as u64);
        for update in pane.iter() {
            wire::put_u64(into, u64::from(numbers[update.user as usize]));
            wire::put_signed(into, i128::from(update.time));
            wire::put_bytes(into, update.event_id.as_bytes());
            put_version(into, &users.versions, update.version);
        }
    }
    users.examples.write(into);
}

/// Reads a state that [`write`] has written under the same rules.
pub(crate) fn read(bytes: &[u8], rules: Rules) -> Result<Users, RestoreError> {
    let mut reader = Reader::new(bytes);
    reader.version(VERSION)?;
    let windows = rules.windows;
    let mut users = Users::new(rules);
    users.closed = optional(&mut reader)?;

    let mut indices = Vec::new();
    for number in 0..reader.u64()? {
        let domain = reader.text()?;
        let index = users.find_or_insert(domain, reader.text()?);
        if users.slab.len() as u64 != number + 1 {
            return Err(damaged("a user who comes twice"));
        }
        indices.push(index);
        if let Some(pane_end) = optional(&mut reader)? {
            if windows.pane_end(pane_end) != pane_end || users.closed.is_none_or(|closed| pane_end > closed) {
                return Err(damaged("a vector that counts in a pane that is not closed"));
            }
            let version = version(&mut reader, &mut users.versions)?;
            users.enter(index, Current { version, pane_end });
        }
    }

    for _ in 0..reader.u64()? {
        let end = reader.time()?;
        if users.panes.contains_key(&end) {
            return Err(damaged("a pane that comes twice"));
        }
        for _ in 0..reader.u64()? {
            let user = usize::try_from(reader.u64()?).ok().and_then(|number| indices.get(number));
            let user = *user.ok_or_else(|| damaged("an unknown user"))?;
            let time = reader.time()?;
            if windows.pane_end(time) != end {
                return Err(damaged("a vector outside of its pane"));
            }
            let event_id = Text::new(reader.text()?);
            let is_known = users.panes.get_mut(&end).is_some_and(|pane| pane.find_mut(user).is_some());
            if is_known {
                return Err(damaged("a user who is twice in a pane"));
            }
            let version = version(&mut reader, &mut users.versions)?;
            users.wait(end, Update { user, version, time, event_id });
        }
    }
    users.examples = Examples::read(&mut reader)?;
    reader.finish()?;
    if indices.iter().any(|index| !Users::is_live(&users.slab[*index])) {
        return Err(damaged("a user without vectors"));
    }
    Ok(users)
}

fn put_optional(into: &mut Vec<u8>, time: Option<i64>) {
    wire::put_u64(into, u64::from(time.is_some()));
    if let Some(time) = time {
        wire::put_signed(into, i128::from(time));
    }
}

fn optional(reader: &mut Reader<'_>) -> Result<Option<i64>, RestoreError> {
    match reader.u64()? {
        0 => Ok(None),
        1 => reader.time().map(Some),
        _ => Err(damaged("neither a time nor none")),
    }
}

fn put_version(into: &mut Vec<u8>, versions: &Versions, number: u32) {
    versions.places(number).iter().for_each(|place| into.extend_from_slice(&place.to_le_bytes()));
    versions.vector(number).iter().for_each(|component| into.extend_from_slice(&component.to_le_bytes()));
}

fn version(reader: &mut Reader<'_>, versions: &mut Versions) -> Result<u32, RestoreError> {
    let (places, components) = versions.lengths();
    let places =
        (0..places).map(|_| Ok(i32::from_le_bytes(reader.array()?))).collect::<Result<Vec<_>, RestoreError>>()?;
    let vector = (0..components).map(|_| Ok(f32::from_le_bytes(reader.array()?)));
    let vector = vector.collect::<Result<Vec<_>, RestoreError>>()?;
    Ok(versions.insert(&places, &vector))
}
