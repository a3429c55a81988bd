//! The headers of refused records, as Kafka Connect names them.

/// What was wrong with one record, and where.
#[derive(Debug, Clone, Copy)]
pub struct Error<'a> {
    /// The worker that refuses it.
    pub worker: &'a str,
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Where in the worker.
    pub stage: &'a str,
    /// The reason's name.
    pub reason: &'a str,
    /// For a person.
    pub message: &'a str,
}

impl Error<'_> {
    /// Header names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        [
            ("__connect.errors.topic", self.topic.into()),
            ("__connect.errors.partition", self.partition.to_string().into_bytes()),
            ("__connect.errors.offset", self.offset.to_string().into_bytes()),
            ("__connect.errors.connector.name", self.worker.into()),
            ("__connect.errors.stage", self.stage.into()),
            ("__connect.errors.exception.class.name", self.reason.into()),
            ("__connect.errors.exception.message", self.message.into()),
        ]
        .into_iter()
    }
}
