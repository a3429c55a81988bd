//! Questions and orders to brokers that rust-rdkafka 0.39 has no call for: topic ids, and the deletion of single
//! offsets of a group. Each call waits for its answer.
//!
//! The members of a group are not asked for: where the group's coordinator is away, an admin request to it that times out
//! frees memory twice in librdkafka 2.12.1 (`rd_kafka_admin_coord_request`). `delete_offsets` is of that kind too; it is for
//! commands that a person runs, never for a worker at work.
#![expect(unsafe_code, reason = "rust-rdkafka wraps none of these calls of librdkafka")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::identity::{TopicId, TopicIdentity};

/// Ids and partition counts of topics by name; of each one that cannot be described, why.
///
/// # Errors
/// Where no broker answers within `timeout`, or none may be asked.
pub fn describe_topics<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, Result<TopicIdentity, RDKafkaErrorCode>>, KafkaError> {
    let names = c_strings(topics);
    let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the names outlive the call, which copies them.
    let collection = unsafe { native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let event = ask(client, operation, timeout, |client, options, queue| {
        // SAFETY: all four live during the call, which copies what it needs.
        unsafe { native::rd_kafka_DescribeTopics(client, collection, options, queue) }
    });
    // SAFETY: it was made above, and nothing refers to it any more.
    unsafe { native::rd_kafka_TopicCollection_destroy(collection) };
    let event = event?;
    let mut count = 0;
    // SAFETY: the event is the answer to this question; what it gives lives as long as the event.
    let found = unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        list(native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count), count)
    };
    // SAFETY: as above.
    let described = found.iter().map(|topic| unsafe {
        let name = text(native::rd_kafka_TopicDescription_name(*topic));
        (name, failure(native::rd_kafka_TopicDescription_error(*topic)).map_or_else(|| Ok(identity(*topic)), Err))
    });
    Ok(described.collect())
}

/// Deletes a group's offsets of these partitions; other offsets and members stay. A group that does not exist has none.
///
/// # Errors
/// The code `GroupSubscribedToTopic` or `NonEmptyGroup` where members still read one of the topics.
pub fn delete_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    partitions: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), KafkaError> {
    let group = c_strings(&[group]).remove(0);
    // SAFETY: name and list live during the call, which copies both.
    let mut order = unsafe { native::rd_kafka_DeleteConsumerGroupOffsets_new(group.as_ptr(), partitions.ptr()) };
    let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS;
    let event = ask(client, operation, timeout, |client, options, queue| {
        // SAFETY: all of them live during the call, which copies what it needs.
        unsafe { native::rd_kafka_DeleteConsumerGroupOffsets(client, &raw mut order, 1, options, queue) }
    });
    // SAFETY: it was made above, and nothing refers to it any more.
    unsafe { native::rd_kafka_DeleteConsumerGroupOffsets_destroy(order) };
    let event = event?;
    let mut count = 0;
    // SAFETY: the event is the answer to this order; what it gives lives as long as the event.
    unsafe {
        let result = native::rd_kafka_event_DeleteConsumerGroupOffsets_result(event.0.as_ptr());
        let groups = list(native::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count), count);
        for group in groups {
            match failure(native::rd_kafka_group_result_error(*group)) {
                None | Some(RDKafkaErrorCode::GroupIdNotFound) => {}
                Some(code) => return Err(KafkaError::AdminOp(code)),
            }
            let partitions = native::rd_kafka_group_result_partitions(*group);
            let Some(partitions) = partitions.as_ref().filter(|partitions| partitions.cnt > 0) else { continue };
            for element in slice::from_raw_parts(partitions.elems, partitions.cnt as usize) {
                let code = RDKafkaErrorCode::from(element.err);
                if code != RDKafkaErrorCode::NoError {
                    return Err(KafkaError::AdminOp(code));
                }
            }
        }
    }
    Ok(())
}

/// An answer of librdkafka's.
struct Event(NonNull<native::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: it was given to us, and what was taken from it has been copied.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// Sends a question by `send`, and waits for its answer.
fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: native::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*mut native::rd_kafka_t, *const native::rd_kafka_AdminOptions_t, *mut native::rd_kafka_queue_t),
) -> Result<Event, KafkaError> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let client = client.native_ptr();
    // SAFETY: the client outlives this call, and with it queue and options, which are given back below. The question has
    // its answer by then, or is abandoned: librdkafka keeps the queue itself as long as it may answer.
    let event = unsafe {
        let options = native::rd_kafka_AdminOptions_new(client, operation);
        native::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        let queue = native::rd_kafka_queue_new(client);
        send(client, options, queue);
        // librdkafka answers at the timeout itself, with an error
        let event = native::rd_kafka_queue_poll(queue, millis.saturating_add(1_000));
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_AdminOptions_destroy(options);
        event
    };
    let event = Event(NonNull::new(event).ok_or(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))?);
    // SAFETY: the event lives.
    match RDKafkaErrorCode::from(unsafe { native::rd_kafka_event_error(event.0.as_ptr()) }) {
        RDKafkaErrorCode::NoError => Ok(event),
        code => Err(KafkaError::AdminOp(code)),
    }
}

/// The elements of an array of librdkafka's.
///
/// # Safety
/// It must have `count` elements, or be null.
unsafe fn list<'a, T>(first: *mut *const T, count: usize) -> &'a [*const T] {
    if first.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: as the caller says.
    unsafe { slice::from_raw_parts(first, count) }
}

/// # Safety
/// The topic must be of an answer that lives.
unsafe fn identity(topic: *const native::rd_kafka_TopicDescription_t) -> TopicIdentity {
    let mut count = 0;
    // SAFETY: as the caller says.
    let id = unsafe {
        native::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        text(native::rd_kafka_Uuid_base64str(native::rd_kafka_TopicDescription_topic_id(topic)))
    };
    TopicIdentity { id: TopicId::parse(&id), partitions: i32::try_from(count).unwrap_or(i32::MAX) }
}

/// The code of an error; `None` where there is none.
///
/// # Safety
/// The error must live, or be null.
unsafe fn failure(error: *const native::rd_kafka_error_t) -> Option<RDKafkaErrorCode> {
    if error.is_null() {
        return None;
    }
    // SAFETY: as the caller says.
    let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_error_code(error) });
    (code != RDKafkaErrorCode::NoError).then_some(code)
}

/// # Safety
/// The text must live and end with a 0 byte, or be null.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Names for C; what stands behind a 0 byte is left out, since no topic or group has one in its name.
fn c_strings(names: &[&str]) -> Vec<CString> {
    let before_zero = |name: &&str| name.split('\0').next().unwrap_or_default().to_owned();
    names.iter().map(|name| CString::new(before_zero(name)).unwrap_or_default()).collect()
}
