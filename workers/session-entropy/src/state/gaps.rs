//! The gaps between a session's events, first in first out, in 40 bytes for up to ten events.

use std::collections::VecDeque;

const INLINE: usize = 9;

/// A queue of gaps in ms; windows are shorter than 2^32 ms, so gaps inside of them are too.
#[derive(Debug)]
pub(crate) enum Gaps {
    Inline { length: u8, gaps: [u32; INLINE] },
    Heap(VecDeque<u32>),
}

impl Default for Gaps {
    fn default() -> Self {
        Self::Inline { length: 0, gaps: [0; INLINE] }
    }
}

impl Gaps {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Inline { length, .. } => usize::from(*length),
            Self::Heap(gaps) => gaps.len(),
        }
    }

    pub(crate) fn push(&mut self, gap: u32) {
        match self {
            Self::Inline { length, gaps } if usize::from(*length) < INLINE => {
                gaps[usize::from(*length)] = gap;
                *length += 1;
            }
            Self::Inline { gaps, .. } => {
                let mut queue = VecDeque::with_capacity(16);
                queue.extend(gaps.iter());
                queue.push_back(gap);
                *self = Self::Heap(queue);
            }
            Self::Heap(gaps) => gaps.push_back(gap),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<u32> {
        match self {
            Self::Inline { length: 0, .. } => None,
            Self::Inline { length, gaps } => {
                let first = gaps[0];
                gaps.copy_within(1.., 0);
                *length -= 1;
                Some(first)
            }
            Self::Heap(gaps) => {
                let first = gaps.pop_front();
                // half of the inline room, so that a session at the edge does not move at each event
                if gaps.len() <= INLINE / 2 {
                    let mut inline = [0; INLINE];
                    let length = gaps.len() as u8;
                    inline.iter_mut().zip(gaps.iter()).for_each(|(to, from)| *to = *from);
                    *self = Self::Inline { length, gaps: inline };
                }
                first
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        let (inline, heap) = match self {
            Self::Inline { length, gaps } => (&gaps[..usize::from(*length)], None),
            Self::Heap(gaps) => ([].as_slice(), Some(gaps)),
        };
        inline.iter().chain(heap.into_iter().flat_map(|gaps| gaps.iter())).copied()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Heap(gaps) => gaps.capacity() * size_of::<u32>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn up_to_nine_gaps_take_40_bytes() {
        assert_eq!(size_of::<Gaps>(), 40);
    }

    proptest! {
        #[test]
        fn gaps_queue_as_in_a_queue(steps in prop::collection::vec(prop::option::weighted(0.55, any::<u32>()), 0..200)) {
            let mut gaps = Gaps::default();
            let mut queue = VecDeque::new();
            for step in steps {
                match step {
                    Some(gap) => {
                        gaps.push(gap);
                        queue.push_back(gap);
                    }
                    None => prop_assert_eq!(gaps.pop(), queue.pop_front()),
                }
                prop_assert_eq!(gaps.len(), queue.len());
            }
            prop_assert_eq!(gaps.iter().collect::<VecDeque<_>>(), queue);
        }
    }
}
