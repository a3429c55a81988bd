//! The watermark of one source partition: what is late, and whom it follows while its partition is idle.

use serde::{Deserialize, Serialize};

use crate::window::Windows;

/// Watermark of a source partition, in epoch ms: `max(event time accepted) - bound`, never falling; an idle partition's
/// follows the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watermark {
    bound: i64,
    value: Option<i64>,
    /// Whether it has followed others since the partition's last record.
    followed: bool,
}

impl Watermark {
    pub(crate) fn new(bound: i64) -> Self {
        Self { bound, value: None, followed: false }
    }

    pub(crate) fn value(&self) -> Option<i64> {
        self.value
    }

    pub(crate) fn followed(&self) -> bool {
        self.followed
    }

    /// Whether an event of that time changes no result any more.
    pub(crate) fn is_late(&self, event_time: i64) -> bool {
        self.value.is_some_and(|value| event_time <= value)
    }

    /// Takes an accepted event in; true where the watermark rose.
    pub(crate) fn accept(&mut self, event_time: i64) -> bool {
        let candidate = event_time.saturating_sub(self.bound);
        let rises = self.value.is_none_or(|value| candidate > value);
        if rises {
            self.value = Some(candidate);
        }
        rises
    }

    /// Follows others up to `target`; true where it rose.
    pub(crate) fn follow(&mut self, target: i64) -> bool {
        let rises = self.value.is_none_or(|value| target > value);
        if rises {
            self.value = Some(target);
            self.followed = true;
        }
        rises
    }

    /// The partition has spoken again: what it follows from now on is a new decision.
    pub(crate) fn speaks(&mut self) {
        self.followed = false;
    }
}

/// What a partition has announced of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Announced {
    /// Its watermark in epoch ms; `None` before its first event.
    pub watermark: Option<i64>,
    /// Whether its owner says that it is idle.
    pub idle: bool,
    /// What was closed at its newest committed snapshot.
    pub restores_from: Option<i64>,
}

/// The watermark to which an idle partition follows the others of its topic (METRICS.md §1): the smallest of those not
/// idle, or, where all are idle, the largest of all; never beyond `now - bound`; at multiples of the slide.
///
/// `partitions` are the announcements of all partitions of the topic, `None` for one that has announced nothing: it is
/// waited for. `own` is the asking partition's index; it is idle.
pub(crate) fn follow_target(
    partitions: &[Option<Announced>],
    own: usize,
    windows: &Windows,
    bound: i64,
    now: i64,
) -> Option<i64> {
    let mut smallest_active: Option<i64> = None;
    let mut largest: Option<i64> = None;
    for (index, announced) in partitions.iter().enumerate() {
        let announced = match announced {
            Some(announced) => announced,
            None if index == own => continue,
            None => return None,
        };
        largest = largest.max(announced.watermark);
        if index != own && !announced.idle {
            // active without a watermark: nothing accepted so far, so nothing can be followed
            let watermark = announced.watermark?;
            smallest_active = Some(smallest_active.map_or(watermark, |smallest| smallest.min(watermark)));
        }
    }
    let target = smallest_active.or(largest)?.min(now.saturating_sub(bound));
    Some(windows.floor(target))
}

/// The smallest watermark of a topic for flow control. A partition that has announced nothing counts as standing at
/// `start`, where the asking partition began: so nobody runs away from an owner that has not spoken yet.
pub(crate) fn slowest(partitions: &[Option<Announced>], own: usize, start: i64) -> i64 {
    partitions
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != own)
        .map(|(_, announced)| announced.and_then(|announced| announced.watermark).unwrap_or(start))
        .min()
        .unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::MAX_SPAN;

    const NOW: i64 = i64::MAX;

    fn windows() -> Windows {
        Windows::new(300, 10).unwrap()
    }

    fn active(watermark: i64) -> Option<Announced> {
        Some(Announced { watermark: Some(watermark), idle: false, restores_from: None })
    }

    fn idle(watermark: Option<i64>) -> Option<Announced> {
        Some(Announced { watermark, idle: true, restores_from: None })
    }

    #[test]
    fn an_event_at_the_watermark_is_late_and_one_above_it_is_not() {
        let mut watermark = Watermark::new(5);
        assert!(!watermark.is_late(i64::MIN));
        assert!(watermark.accept(100));
        assert_eq!(watermark.value(), Some(95));
        assert!(watermark.is_late(95));
        assert!(!watermark.is_late(96));
        assert!(!watermark.accept(98), "it never falls");
        assert_eq!(watermark.value(), Some(95));
    }

    #[test]
    fn an_idle_partition_follows_the_smallest_active_one_at_multiples_of_the_slide() {
        let partitions = [idle(Some(3)), active(47), active(92), idle(Some(200))];
        assert_eq!(follow_target(&partitions, 0, &windows(), 5, NOW), Some(40));
    }

    #[test]
    fn where_all_are_idle_the_largest_is_followed() {
        let partitions = [idle(None), idle(Some(47)), idle(Some(92))];
        assert_eq!(follow_target(&partitions, 0, &windows(), 5, NOW), Some(90));
        assert_eq!(follow_target(&partitions, 2, &windows(), 5, NOW), Some(90));
    }

    #[test]
    fn a_partition_that_has_announced_nothing_is_waited_for() {
        assert_eq!(follow_target(&[idle(Some(3)), None, active(92)], 0, &windows(), 5, NOW), None);
        let no_event_yet = Some(Announced::default());
        assert_eq!(follow_target(&[idle(Some(3)), no_event_yet, active(92)], 0, &windows(), 5, NOW), None);
        assert_eq!(follow_target(&[None, active(92)], 0, &windows(), 5, NOW), Some(90));
    }

    #[test]
    fn nobody_follows_beyond_now() {
        assert_eq!(follow_target(&[idle(None), active(1_000)], 0, &windows(), 5, 500), Some(490));
    }

    fn any_time() -> impl Strategy<Value = i64> {
        prop_oneof![4 => any::<i64>(), 4 => 0..10_000_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
    }

    fn any_announced() -> impl Strategy<Value = Option<Announced>> {
        let announced = (prop::option::of(any_time()), any::<bool>()).prop_map(|(watermark, idle)| Announced {
            watermark,
            idle,
            restores_from: None,
        });
        prop::option::weighted(0.8, announced)
    }

    proptest! {
        /// The reader's clock jumps back and forth, events and others' watermarks are anything.
        #[test]
        fn a_watermark_never_falls_and_follows_nobody_beyond_now(
            bound in 0..=MAX_SPAN,
            steps in prop::collection::vec(
                (any_time(), any_time(), prop::collection::vec(any_announced(), 1..4), any::<bool>()), 1..50),
        ) {
            let mut watermark = Watermark::new(bound);
            for (event_time, now, partitions, accepts) in steps {
                let before = watermark.value();
                if accepts {
                    if !watermark.is_late(event_time) {
                        watermark.accept(event_time);
                    }
                    prop_assert!(watermark.value() >= Some(event_time.saturating_sub(bound)));
                } else if let Some(target) = follow_target(&partitions, 0, &windows(), bound, now) {
                    prop_assert!(i128::from(target) <= (i128::from(now) - i128::from(bound)).max(i128::from(i64::MIN)));
                    prop_assert_eq!(watermark.follow(target), before.is_none_or(|before| before < target));
                }
                prop_assert!(watermark.value() >= before);
                prop_assert!(watermark.value().is_none_or(|value| watermark.is_late(value)));
            }
        }
    }

    #[test]
    fn the_slowest_partition_counts_unheard_ones_at_the_start() {
        assert_eq!(slowest(&[active(50), active(20), None], 0, 7), 7);
        assert_eq!(slowest(&[active(50), active(20)], 0, 7), 20);
        assert_eq!(slowest(&[active(50)], 0, 7), i64::MAX);
    }
}
