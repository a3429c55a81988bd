//! The fetched messages of one partition, many at a time.
//!
//! `BaseConsumer::poll` takes one message a call: several clock readings, locks and an allocation each. librdkafka gives
//! whole batches, which rust-rdkafka has no safe way to ask for. Its batch call knows no rebalances, which come through
//! the consumer's own queue: so each partition's messages are kept out of that, in the queue where they are fetched to,
//! and the consumer is polled for everything else.
#![expect(unsafe_code, reason = "a third of the processor time of reading a record, see the module")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use rdkafka::bindings as native;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use records::truncation::UNREADABLE_HEADERS;

use crate::headers::{self, Headers};
use crate::kafka::{GroupMember, is_timestamp};
use crate::operator::Record;
use crate::thread::epoch_millis;

/// Messages of a partition taken at a time.
pub(crate) const BATCH: usize = 512;

/// See the module. It must be made anew whenever its partition was assigned anew.
pub(crate) struct PartitionQueue {
    queue: NonNull<native::rd_kafka_queue_t>,
    /// What was fetched and is not done with.
    batch: VecDeque<Message>,
    /// The clock (epoch ms) right after the batch was fetched: no event in it is younger.
    fetched_at: i64,
    fetched: Vec<*mut native::rd_kafka_message_t>,
    /// The queue's client, which must outlive it.
    _consumer: Arc<GroupMember>,
}

/// A message that was given to us.
struct Message(NonNull<native::rd_kafka_message_t>);

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing borrows from it any more.
        unsafe { native::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

/// Why a message shows no headers.
enum Missing {
    /// It has none.
    None,
    /// librdkafka takes no more than 100,000 apart.
    Unreadable,
}

/// A message in librdkafka's memory.
pub(crate) struct Fetched<'a> {
    message: &'a native::rd_kafka_message_t,
    /// Most have none, and several ask: librdkafka would look each time.
    has_no_headers: Cell<bool>,
}

impl PartitionQueue {
    /// From now on the partition's messages come through this queue alone; `None` where librdkafka knows no such partition.
    pub(crate) fn split(consumer: &Arc<GroupMember>, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client lives, and the name is read during the call only.
        let queue =
            unsafe { native::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition) };
        let queue = NonNull::new(queue)?;
        // SAFETY: the queue was given a moment ago; no destination means that it keeps its messages.
        unsafe { native::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut()) };
        let (batch, fetched) = (VecDeque::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Some(Self { queue, batch, fetched_at: 0, fetched, _consumer: consumer.clone() })
    }

    /// Takes the messages that are there from librdkafka, up to a batch of them, where the last batch is done with. The clock
    /// (epoch ms) right after it did that: one for the batch, however often its messages are shown. `None` where there is none.
    pub(crate) fn fill(&mut self) -> Option<i64> {
        if self.batch.is_empty() {
            self.fetch();
            self.fetched_at = epoch_millis();
        }
        (!self.batch.is_empty()).then_some(self.fetched_at)
    }

    /// Shows the messages of the batch until `each` breaks: that message and the rest of the batch are kept for the next
    /// time. The number of those that are done with.
    pub(crate) fn take<B>(
        &mut self,
        mut each: impl FnMut(Result<Fetched<'_>, RDKafkaErrorCode>) -> ControlFlow<B>,
    ) -> (usize, Option<B>) {
        let mut count = 0;
        while let Some(message) = self.batch.pop_front() {
            // SAFETY: the message lives until the end of this turn, and nothing borrows from it then: `each` takes it for any
            // lifetime.
            let shown = unsafe { message.0.as_ref() };
            let error = RDKafkaErrorCode::from(shown.err);
            let shown = if error == RDKafkaErrorCode::NoError { Ok(Fetched::new(shown)) } else { Err(error) };
            if let ControlFlow::Break(broken) = each(shown) {
                self.batch.push_front(message);
                return (count, Some(broken));
            }
            count += 1;
        }
        (count, None)
    }

    /// Forgets what is kept for the next time.
    pub(crate) fn clear(&mut self) {
        self.batch.clear();
    }

    fn fetch(&mut self) {
        // SAFETY: the queue is ours, the buffer has room for BATCH pointers, and no wait is asked for.
        let count =
            unsafe { native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, self.fetched.as_mut_ptr(), BATCH) };
        let count = usize::try_from(count).unwrap_or(0).min(BATCH);
        // SAFETY: the call has written that many pointers.
        unsafe { self.fetched.set_len(count) };
        self.batch.extend(self.fetched.drain(..).filter_map(NonNull::new).map(Message));
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: it was given to us, and its client still lives.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

impl<'a> Fetched<'a> {
    fn new(message: &'a native::rd_kafka_message_t) -> Self {
        Self { message, has_no_headers: Cell::new(false) }
    }

    /// A message that rust-rdkafka gave: its own way to headers panics where a name is no UTF-8.
    pub(crate) fn of(message: &'a BorrowedMessage<'_>) -> Self {
        // SAFETY: the pointer is never null, and what it points to lives and stays as it is while the message is borrowed.
        Self::new(unsafe { &*message.ptr() })
    }

    /// The message as operators see it.
    pub(crate) fn record(&self) -> Record<'_> {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives for 'a.
        let timestamp = unsafe { native::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        let is_there = kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        Record {
            key: self.bytes(self.message.key, self.message.key_len),
            value: self.bytes(self.message.payload, self.message.len),
            timestamp: Some(timestamp).filter(|timestamp| is_there && is_timestamp(timestamp)),
            offset: self.message.offset,
            headers: self,
        }
    }

    /// The message's headers, taken apart with the first call; where it has none, that costs next to nothing.
    fn native_headers(&self) -> Result<NonNull<native::rd_kafka_headers_t>, Missing> {
        if self.has_no_headers.get() {
            return Err(Missing::None);
        }
        let mut found = ptr::null_mut();
        // SAFETY: the message lives, and its headers live with it.
        let error = unsafe { native::rd_kafka_message_headers(self.message, &raw mut found) };
        match (error, NonNull::new(found)) {
            (native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, Some(found)) => Ok(found),
            (native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT, _) => {
                self.has_no_headers.set(true);
                Err(Missing::None)
            }
            _ => Err(Missing::Unreadable),
        }
    }

    fn bytes(&self, start: *mut std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
        // SAFETY: librdkafka's pointers are null or have that many bytes behind them, as long as the message lives.
        (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) })
    }
}

impl records::Headers for Fetched<'_> {
    fn last(&self, name: &CStr) -> Option<Option<&[u8]>> {
        let found = self.native_headers().ok()?;
        let (mut value, mut length) = (ptr::null(), 0);
        // SAFETY: the headers live, the name is read during the call only, and values live as long as the headers.
        let error =
            unsafe { native::rd_kafka_header_get_last(found.as_ptr(), name.as_ptr(), &raw mut value, &raw mut length) };
        let is_there = error == native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        is_there.then(|| self.bytes(value.cast_mut(), length))
    }
}

impl Headers for Fetched<'_> {
    fn write(&self, into: &mut Vec<u8>) {
        let found = match self.native_headers() {
            Ok(found) => found,
            Err(Missing::None) => return,
            Err(Missing::Unreadable) => {
                let (name, value) = UNREADABLE_HEADERS;
                return headers::write(into, name, Some(value.as_bytes()));
            }
        };
        for index in 0.. {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live; behind the last one the call writes nothing and says so.
            let error = unsafe {
                native::rd_kafka_header_get_all(found.as_ptr(), index, &raw mut name, &raw mut value, &raw mut length)
            };
            if error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: names end with a 0 byte and live as long as the headers.
            let name = unsafe { CStr::from_ptr(name) };
            headers::write(into, &name.to_string_lossy(), self.bytes(value.cast_mut(), length));
        }
    }
}
