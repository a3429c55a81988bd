//! `/metrics`, `/healthz` and `/readyz`, on a thread of their own so that a busy worker still answers.

mod connections;
mod door;

use std::net::SocketAddr;
use std::thread::JoinHandle;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::health::Health;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// The running server; dropping it stops the server.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Parts {
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl HttpServer {
    /// Binds `listen` (port 0: any free port) and serves until dropped.
    ///
    /// Errors: the address cannot be bound.
    pub fn start(listen: SocketAddr, health: Health, metrics: Metrics, shutdown: Shutdown) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the HTTP server")?;
        let listener = runtime.block_on(TcpListener::bind(listen)).with_context(|| {
            format!("http.listen = \"{listen}\" cannot be bound: choose a free port, or port 0 for any free one")
        })?;
        let address = listener.local_addr().context("asking for the HTTP server's address")?;
        let (stop, stopped) = oneshot::channel();
        let routes = routes(Parts { health, metrics, shutdown });
        let serve = move || {
            runtime.block_on(async {
                // Until told to stop. Connections that are still open then are cut: nobody waits for a scrape.
                tokio::select! {
                    () = door::serve(listener, routes) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread =
            std::thread::Builder::new().name("http".to_owned()).spawn(serve).context("starting the HTTP thread")?;
        tracing::info!(%address, "serving /metrics, /healthz, /readyz");
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// The bound address, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was logged by the hook; there is nothing to save.
            let _ = thread.join();
        }
    }
}

fn routes(parts: Parts) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(parts)
}

async fn metrics(State(parts): State<Parts>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], parts.metrics.encode())
}

async fn ready(State(parts): State<Parts>) -> (StatusCode, String) {
    let mut reasons = parts.health.ready().err().unwrap_or_default();
    if parts.shutdown.requested() {
        reasons.insert(0, "shutting down".to_owned());
    }
    if reasons.is_empty() {
        let remarks = parts.health.remarks();
        (StatusCode::OK, ["ready".to_owned()].into_iter().chain(remarks).map(|line| line + "\n").collect())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}
