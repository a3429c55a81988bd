use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;

/// A producer's first delivery that failed.
#[derive(Default)]
pub(crate) struct Deliveries(Mutex<Option<String>>);

impl Deliveries {
    /// # Errors
    /// A delivery has failed since it was asked last.
    pub(crate) fn check(&self) -> Result<()> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        failed.map_or(Ok(()), |message| Err(anyhow!(message)))
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, message)) = result {
            let size = message.payload().map_or(0, <[u8]>::len);
            let text = format!("a record of {size} bytes was not delivered to {}: {error}", message.topic());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
    }
}
