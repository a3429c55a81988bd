//! How large the records of output topics may be: as the brokers said at the start, and as it has turned out since.

/// librdkafka's own limit for a batch of several records, in bytes.
const USUAL_BATCH: usize = 1_000_000;

/// A topic that takes no batch of so few bytes takes nothing.
const LEAST: usize = 256;

/// Limits by index of the output topic, in bytes of an uncompressed batch: a batch that is within them always fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicLimits {
    limits: Vec<usize>,
    batch: usize,
}

impl TopicLimits {
    /// With what is known at the start.
    #[must_use]
    pub fn new(limits: &[usize]) -> Self {
        let batch = limits.iter().copied().min().unwrap_or(USUAL_BATCH).min(USUAL_BATCH);
        Self { limits: limits.to_vec(), batch }
    }

    /// The largest record that the topic takes; 0 where it takes none.
    #[must_use]
    pub fn of(&self, topic: usize) -> usize {
        self.limits.get(topic).copied().unwrap_or(usize::MAX)
    }

    /// The largest batch of several records, whatever their topic.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The brokers have refused a batch of a topic for its size; `largest` is the largest record that was sent there,
    /// `said` the limit that they name now. Each refusal makes a limit smaller, so there are few.
    pub fn refused(&mut self, topic: usize, largest: usize, said: Option<usize>) {
        let Some(limit) = self.limits.get_mut(topic) else { return };
        match said {
            Some(said) if said < *limit => *limit = said,
            // several small ones may have been one batch
            _ if self.batch > largest.max(LEAST) => self.batch = largest.max(LEAST),
            _ => *limit = largest.min(*limit) / 4 * 3,
        }
        if *limit < LEAST {
            *limit = 0;
        }
        self.batch = self.batch.min((*limit).max(LEAST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_brokers_say_now_counts() {
        let mut limits = TopicLimits::new(&[5_000_000, 4_000_000]);
        assert_eq!((limits.of(1), limits.batch()), (4_000_000, USUAL_BATCH));
        limits.refused(1, 3_000_000, Some(2_048));
        assert_eq!((limits.of(0), limits.of(1), limits.batch()), (5_000_000, 2_048, 2_048));
        limits.refused(1, 1_000, Some(100));
        assert_eq!((limits.of(0), limits.of(1), limits.batch()), (5_000_000, 0, LEAST));
    }

    /// A topic that takes up to 2,048 bytes, and brokers that do not say so.
    #[test]
    fn without_an_answer_the_limit_is_found_in_few_refusals_and_never_far_below_it() {
        const TRUE_LIMIT: usize = 2_048;
        for (largest, refusals) in [(500, 2), (2_048, 2), (4_000_000, 40)] {
            let mut limits = TopicLimits::new(&[4_259_840]);
            let fits = |limits: &TopicLimits| largest.min(limits.of(0)).max(limits.batch()) <= TRUE_LIMIT;
            let mut count = 0;
            while !fits(&limits) {
                limits.refused(0, largest.min(limits.of(0)), None);
                count += 1;
            }
            assert!(count <= refusals && limits.of(0) >= TRUE_LIMIT * 3 / 4, "{largest}: {count}, {limits:?}");
        }
    }

    #[test]
    fn a_topic_that_takes_nothing_is_found_out_too() {
        let mut limits = TopicLimits::new(&[1_000_000]);
        let refusals = (0..100).take_while(|_| {
            limits.refused(0, limits.of(0), None);
            limits.of(0) > 0
        });
        assert!(refusals.count() < 40, "{limits:?}");
    }
}
