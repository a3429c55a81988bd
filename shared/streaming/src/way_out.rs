//! What a person does about a topic that is not the one that was read: the same words at run time and at the next start.

use kafka::TopicChange;

use crate::topology::Topology;

/// What has changed, what follows from it, and the command that goes on.
pub(crate) fn of(topology: &Topology, change: &TopicChange) -> String {
    let reset = format!("stop all instances and run: {} --config FILE --reset-state", topology.worker);
    let topic = change.topic();
    let is_source = topology.pipelines.iter().any(|pipeline| pipeline.source_topic == topic);
    let is_internal = topology.internal_topics().iter().any(|internal| internal == topic);
    match change {
        TopicChange::Recreated { .. } if is_source => {
            format!(
                "{change}. State and offsets are those of the old topic; to read the new one from its beginning, {reset}"
            )
        }
        TopicChange::Partitions { .. } if is_source => format!(
            "{change}. State and open windows are those of the old number; to read the topic from its beginning with all \
             partitions, {reset}"
        ),
        TopicChange::Deleted { .. } if is_source => {
            format!("{change}, which is a source. Create it; where it had been read before, {reset}")
        }
        TopicChange::Deleted { .. } if !is_internal => {
            format!("{change}. Create it, or run: {} --config FILE --create-topics", topology.worker)
        }
        _ => format!(
            "{change}. It is a part of the state; to give the state up and read the sources from their beginning, {reset}"
        ),
    }
}
