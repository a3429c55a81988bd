//! What the thread shows of its tasks.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::future_warnings::warn;
use super::{StreamThread, epoch_millis};
use crate::telemetry::{ReasonLabels, RuleLabels, TopicLabels};

impl StreamThread {
    pub(super) fn measure(&mut self) {
        let telemetry = &self.worker.telemetry;
        let now = epoch_millis();
        for (pipeline, table) in self.worker.tables() {
            let topic = TopicLabels { topic: self.worker.topology.internal_topic(pipeline, "table") };
            let size = table.size();
            telemetry.table_entries.get_or_create(&topic).set(size.keys as i64);
            telemetry.table_bytes.get_or_create(&topic).set(size.bytes as i64);
            telemetry.table_delay.get_or_create(&topic).set(now.saturating_sub(table.complete()));
        }
        let (mut keys, mut bytes) = (0, 0);
        for slot in &mut self.slots {
            let Some(task) = slot.task() else { continue };
            telemetry.open_windows.get_or_create(&slot.labels).set(task.open_windows() as i64);
            if !slot.is_fold() {
                telemetry.overflowed_groups.get_or_create(&slot.labels).set(task.overflowed() as i64);
            }
            if let Some(watermark) = task.watermark() {
                telemetry.watermark_delay.get_or_create(&slot.labels).set(now.saturating_sub(watermark));
            }
            let size = task.size();
            keys += size.keys;
            bytes += size.bytes;
            telemetry.state_keys.get_or_create(&slot.labels).set(size.keys as i64);
            telemetry.state_bytes.get_or_create(&slot.labels).set(size.bytes as i64);
            let (figures, counts, refused) = (task.figures(), task.counts().cloned(), task.refused_future());
            let told = telemetry.show(&slot.labels, &slot.told, &figures);
            slot.told = told;
            let Some(counts) = counts else { continue };
            let topic = TopicLabels { topic: slot.labels.topic.clone() };
            let seen = slot.counted.get_or_insert_with(|| counts.clone());
            telemetry.read.get_or_create(&topic).inc_by(counts.read - seen.read);
            telemetry.applied.get_or_create(&topic).inc_by(counts.applied - seen.applied);
            telemetry.late.get_or_create(&topic).inc_by(counts.late - seen.late);
            telemetry.lost.get_or_create(&topic).inc_by(counts.lost - seen.lost);
            for (reason, count) in &counts.dead_lettered_by_reason {
                let before = seen.dead_lettered_by_reason.get(reason).copied().unwrap_or_default();
                let labels = ReasonLabels { topic: topic.topic.clone(), reason: reason.clone() };
                telemetry.dead_lettered.get_or_create(&labels).inc_by(count - before);
            }
            for ((rule, count), (_, before)) in
                counts.refused_times.by_rule().into_iter().zip(seen.refused_times.by_rule())
            {
                if count > before {
                    let labels = RuleLabels { topic: topic.topic.clone(), rule };
                    telemetry.refused_times.get_or_create(&labels).inc_by(count - before);
                }
            }
            if let Some(refused) = refused
                && let Some(count) = slot.future_warnings.due(counts.refused_times.future(), Instant::now())
            {
                warn(&slot.labels, count, &refused);
            }
            slot.counted = Some(counts);
        }
        self.status.keys.store(keys, Ordering::Relaxed);
        self.status.bytes.store(bytes, Ordering::Relaxed);
    }
}
