//! A registry that answers from a table.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The content type of what is no registry's answer.
pub const PAGE: &str = "text/html";

/// The "status" of an answer that never comes.
pub const HANGS: u16 = 0;

/// Status, content type and body.
type Answer = (u16, &'static str, String);

#[derive(Clone, Default)]
struct Table {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// The server; it ends when dropped.
pub struct Double {
    table: Table,
    url: String,
    runtime: Option<Runtime>,
}

impl Double {
    pub fn start() -> Self {
        let table = Table::default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(answer).with_state(table.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { table, url, runtime: Some(runtime) }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// From now on, `path` is answered so.
    pub fn put(&self, path: &str, status: u16, content_type: &'static str, body: &str) {
        self.table.answers.lock().unwrap().insert(path.to_owned(), (status, content_type, body.to_owned()));
    }

    /// From now on, there is a schema at `path`.
    pub fn schema(&self, path: &str, text: &str, references: Value) {
        let body = json!({ "schema": text, "references": references, "more": "than is needed" });
        self.put(path, 200, "application/vnd.schemaregistry.v1+json", &body.to_string());
    }

    /// The paths that were asked for, in their order.
    pub fn requests(&self) -> Vec<String> {
        self.table.requests.lock().unwrap().clone()
    }

    pub fn wait_for_requests(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.requests().len() < count {
            assert!(Instant::now() < end, "{:?}", self.requests());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

async fn answer(State(table): State<Table>, uri: Uri) -> Response {
    let path = uri.path().to_owned();
    let found = table.answers.lock().unwrap().get(&path).cloned();
    let code = if path.starts_with("/schemas") { 40403 } else { 40401 };
    table.requests.lock().unwrap().push(path);
    let unknown = || (404, "application/json", json!({ "error_code": code, "message": "not found" }).to_string());
    let (status, content_type, body) = found.unwrap_or_else(unknown);
    if status == HANGS {
        std::future::pending::<()>().await;
    }
    let status = StatusCode::from_u16(status).unwrap();
    let headers = [(header::CONTENT_TYPE, content_type), (header::LOCATION, "/elsewhere")];
    (status, headers, body).into_response()
}
