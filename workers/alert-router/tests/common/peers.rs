//! What a router talks to besides Kafka: a schema registry and a webhook receiver, on one small HTTP server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{get, post};
use records::{Alert, AvroRecord as _, Silence};
use serde_json::{Value, json};

/// A request to the webhook, as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Hook {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.json()["status"].as_str().unwrap().to_owned()
    }
}

#[derive(Clone, Default)]
struct Seen {
    hooks: Arc<Mutex<Vec<Hook>>>,
    /// What the webhook answers; 0 counts as 200.
    answer: Arc<AtomicU16>,
    registry_is_away: Arc<AtomicBool>,
}

/// The server; it runs until the test process ends.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) url: String,
    seen: Seen,
}

impl Peers {
    pub(crate) fn start() -> Self {
        let seen = Seen::default();
        let registry = Router::new()
            .route("/schemas/ids/{id}", get(schema))
            .route("/config/{subject}", get(|| async { json!({"compatibilityLevel": "BACKWARD"}).to_string() }))
            .route("/subjects/{subject}/versions", post(|| async { json!({"id": 2}).to_string() }))
            .layer(map_response(as_registry));
        let routes = registry.route("/hook", post(hook)).with_state(seen.clone());
        Self { url: serve(routes), seen }
    }

    /// What the webhook was sent, in order.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        self.seen.hooks.lock().unwrap().clone()
    }

    /// Whether the registry tells no schema from now on.
    pub(crate) fn registry_is_away(&self, away: bool) {
        self.seen.registry_is_away.store(away, Ordering::SeqCst);
    }

    /// The status that the webhook answers from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.seen.answer.store(status, Ordering::SeqCst);
    }
}

/// Serves these routes until the test process ends; returns their URL.
pub(crate) fn serve(routes: Router) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, routes).await.unwrap();
        });
    });
    url
}

/// Registries name the type of what they answer; another type is somebody else's page.
async fn as_registry(mut response: Response) -> Response {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.schemaregistry.v1+json"));
    response
}

async fn schema(State(seen): State<Seen>, Path(id): Path<i32>) -> Result<String, (StatusCode, String)> {
    if seen.registry_is_away.load(Ordering::SeqCst) {
        return Err((StatusCode::SERVICE_UNAVAILABLE, String::new()));
    }
    match id {
        1 => Ok(json!({"schema": Alert::SCHEMA}).to_string()),
        2 => Ok(json!({"schema": Silence::SCHEMA}).to_string()),
        _ => Err((StatusCode::NOT_FOUND, json!({"error_code": 40403, "message": "Schema not found"}).to_string())),
    }
}

async fn hook(State(seen): State<Seen>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let headers =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned())).collect();
    seen.hooks.lock().unwrap().push(Hook { headers, body: body.to_vec() });
    match seen.answer.load(Ordering::SeqCst) {
        0 => StatusCode::OK,
        status => StatusCode::from_u16(status).unwrap(),
    }
}
