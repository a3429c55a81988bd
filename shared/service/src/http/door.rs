//! Who may connect, and for how long: a port that anybody on the network reaches must cost a worker nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::connections::Connections;
use crate::throttle::Throttle;

/// Connections that are open at the same time.
const MAX_CONNECTIONS: usize = 64;
/// A connection that has sent no whole request head by then is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is closed by then, whatever was read and answered.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// A request head may have this many bytes, and this many headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// Pause where no connection can be accepted, as when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

type Open = Arc<Mutex<Connections<AbortHandle>>>;

/// Serves for ever. Each connection carries one request: none of them is kept for a next one.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    let open: Open = Arc::new(Mutex::new(Connections::new(MAX_CONNECTIONS)));
    let mut warnings = Throttle::new(WARNING_INTERVAL);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                admit(&open, stream, routes.clone());
                // What has come on the connections is read before the next one is let in: else a burst of connections
                // would evict one whose request is already there.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if let Some(suppressed) = warnings.pass(Instant::now()) {
                    tracing::warn!(%error, suppressed, "no connection can be accepted on http.listen");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(open: &Open, stream: TcpStream, routes: Router) {
    let number = lock(open).next_number();
    let task = tokio::spawn(answer(open.clone(), number, stream, routes));
    if let Some(evicted) = lock(open).admit(number, task.abort_handle()) {
        evicted.abort();
    }
}

async fn answer(open: Open, number: u64, stream: TcpStream, routes: Router) {
    let routes = TowerToHyperService::new(routes);
    let counted = open.clone();
    let service = service_fn(move |request| {
        lock(&counted).request_read(number);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // What goes wrong on a connection is its client's business.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
    lock(&open).closed(number);
}

fn lock(open: &Open) -> MutexGuard<'_, Connections<AbortHandle>> {
    // Single insertions and removals: there is no half-done state that a panic could leave.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
