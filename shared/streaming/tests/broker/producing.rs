//! Transactional producers.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::common::{DEADLINE, client_config, wait_until};
use crate::group_member::GroupMember;

/// An initialised transactional producer; the broker aborts a transaction that is older than `timeout`.
pub(crate) fn producer(transactional_id: &str, timeout: Duration) -> BaseProducer {
    let producer: BaseProducer = client_config()
        .set("transactional.id", transactional_id)
        .set("linger.ms", "0")
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        .create()
        .expect("a producer");
    producer.init_transactions(DEADLINE).expect("transactions initialised");
    producer
}

/// Begins a transaction and produces `payloads` to partition 0 of `topic`.
pub(crate) fn begin(producer: &BaseProducer, topic: &str, payloads: &[&str]) {
    producer.begin_transaction().expect("a transaction begun");
    produce(producer, topic, 0, payloads);
}

/// Produces `payloads` and waits until the broker has them.
pub(crate) fn produce(producer: &BaseProducer, topic: &str, partition: i32, payloads: &[&str]) {
    for payload in payloads {
        let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(partition).payload(payload);
        producer.send(record).map_err(|(error, _)| error).expect("a record queued");
    }
    drain(producer);
}

/// Waits until nothing is in flight. Not with `flush`: rust-rdkafka's polls in whole steps of 100 ms even when the last delivery report
/// came in its first millisecond, and `flush(0)` in a loop wakes librdkafka's broker threads so often that requests stall for seconds.
pub(crate) fn drain(producer: &BaseProducer) {
    wait_until("the broker has every record", || {
        producer.poll(Duration::from_millis(1));
        producer.in_flight_count() == 0
    });
}

/// Commits `payloads` and `offsets` as the runtime does: an abort is normal, and the same cut is sent again with fresh group
/// metadata until it is in.
pub(crate) fn commit_cut(
    member: &GroupMember,
    producer: &BaseProducer,
    topic: &str,
    payloads: &[&str],
    offsets: &TopicPartitionList,
) {
    wait_until("the cut is committed", || {
        begin(producer, topic, payloads);
        let sent = producer.send_offsets_to_transaction(offsets, &member.metadata(), DEADLINE);
        match sent.and_then(|()| producer.commit_transaction(DEADLINE)) {
            Ok(()) => true,
            Err(error) => {
                expect_abort(Err(error));
                producer.abort_transaction(DEADLINE).expect("an abort");
                false
            }
        }
    });
}

/// Asserts that an operation failed in the way that asks for an abort and a second try, and returns the code.
pub(crate) fn expect_abort(result: KafkaResult<()>) -> RDKafkaErrorCode {
    match result {
        Err(KafkaError::Transaction(error)) => {
            assert!(error.txn_requires_abort(), "{error:?} does not ask for an abort");
            assert!(!error.is_fatal(), "{error:?} is fatal");
            error.code()
        }
        other => panic!("expected an abortable transaction error, got {other:?}"),
    }
}
