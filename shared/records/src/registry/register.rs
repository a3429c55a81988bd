//! Registering schemas, at starts and by commands: it blocks until the registry has answered.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{self, Answer, Failure, Method, Request};
use super::{Registry, RegistryError, STOP_CHECK, subject};
use crate::AvroRecord;

impl Registry {
    /// Registers a record's schema for a topic's values and returns its id; see [`register`](Self::register).
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_for<R: AvroRecord>(&self, topic: &str) -> Result<i32, RegistryError> {
        self.register(&subject(topic), R::SCHEMA)
    }

    /// Registers a schema under a subject and returns its id, the same one each time. A subject without a compatibility
    /// rule of its own is set to `BACKWARD`; a stricter rule that somebody has set stays. Waits for a registry that is
    /// down, whatever the patience.
    ///
    /// # Errors
    /// Where the registry refuses the schema, for instance as incompatible, or the process stops.
    pub fn register(&self, subject: &str, schema: &str) -> Result<i32, RegistryError> {
        let path = format!("/subjects/{}/versions", http::encode(subject));
        let config_path = format!("/config/{}", http::encode(subject));
        self.require_compatibility(&config_path)?;
        let name = format!("schema for subject {subject}");
        let answer = self.ask(Method::Post, path, Some(json!({ "schema": schema })))?;
        let body = match answer {
            Answer::Ok(body) => body,
            Answer::NotFound { message, .. } | Answer::Refused(message) => return Err(self.refused(name, message)),
        };
        // Some registries know a subject's rule only once the subject exists.
        self.require_compatibility(&config_path)?;
        let Some(id) = body["id"].as_i64().and_then(|id| i32::try_from(id).ok()) else {
            let shown: String = body.to_string().chars().take(300).collect();
            return Err(self.refused(name, format!("the answer has no id: {shown}")));
        };
        self.shared.lookups().note_known_id(id);
        Ok(id)
    }

    fn require_compatibility(&self, config_path: &str) -> Result<(), RegistryError> {
        if self.has_compatibility(config_path)? {
            return Ok(());
        }
        let request = json!({ "compatibility": "BACKWARD" });
        match self.ask(Method::Put, config_path.to_owned(), Some(request))? {
            Answer::Ok(_) | Answer::NotFound { .. } => Ok(()),
            // Another instance that starts may have set it in between.
            Answer::Refused(_) if self.has_compatibility(config_path)? => Ok(()),
            Answer::Refused(message) => Err(self.refused(format!("compatibility BACKWARD at {config_path}"), message)),
        }
    }

    fn has_compatibility(&self, config_path: &str) -> Result<bool, RegistryError> {
        let answer = self.ask(Method::Get, config_path.to_owned(), None)?;
        let Answer::Ok(body) = answer else { return Ok(false) };
        Ok(body["compatibilityLevel"].as_str().is_some_and(|level| level != "NONE"))
    }

    fn refused(&self, request: String, message: String) -> RegistryError {
        RegistryError::Refused { url: self.url().to_owned(), request, message }
    }

    /// Asks until there is an answer.
    fn ask(&self, method: Method, path: String, body: Option<Value>) -> Result<Answer, RegistryError> {
        let request = Request { method, path, body };
        let config = &self.shared.config;
        let stopped = || RegistryError::Stopped { url: self.url().to_owned() };
        let mut pause = config.first_pause;
        loop {
            match self.send(&request).ok_or_else(stopped)? {
                Ok(answer) => {
                    self.shared.note_answer();
                    return Ok(answer);
                }
                Err(failure) => self.shared.note_failure(failure.message()),
            }
            if self.wait_or_stop(pause) {
                return Err(stopped());
            }
            pause = (pause * 2).min(config.longest_pause);
        }
    }

    /// Sends one request and waits for its answer; `None` once the process stops.
    fn send(&self, request: &Request) -> Option<Result<Answer, Failure>> {
        let (sender, receiver) = channel();
        let (shared, request) = (self.shared.clone(), request.clone());
        let task = self.shared.runtime.as_ref()?.spawn(async move {
            // Nobody listens any more where the process stops.
            let _ = sender.send(shared.client.ask(&request).await);
        });
        loop {
            if (self.shared.stop)() {
                task.abort();
                return None;
            }
            match receiver.recv_timeout(STOP_CHECK) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Some(Err(Failure::Other("the request broke off".to_owned())));
                }
            }
        }
    }

    /// Waits; true as soon as the process stops.
    fn wait_or_stop(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            if (self.shared.stop)() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(STOP_CHECK));
        }
    }
}
