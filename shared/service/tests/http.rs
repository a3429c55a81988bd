//! The way to readiness as a probe sees it over HTTP.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use service::{Health, HttpServer, Metrics, Shutdown};

fn get(address: SocketAddr, path: &str) -> Result<(u16, String), reqwest::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = reqwest::get(format!("http://{address}{path}")).await?;
        Ok((response.status().as_u16(), response.text().await?))
    })
}

#[test]
fn a_probe_sees_the_reasons_until_all_conditions_hold_and_again_when_one_fails() {
    let (health, metrics, shutdown) = (Health::new(), Metrics::new(), Shutdown::new());
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = HttpServer::start(any_port, health.clone(), metrics.clone(), shutdown.clone()).unwrap();
    let ready = || get(server.address(), "/readyz").unwrap();

    assert_eq!(ready(), (503, "starting: no part has reported yet\n".to_owned()));
    let assigned = health.condition("partitions assigned");
    let restored = health.condition("state restored");
    assigned.fail("none yet");
    restored.fail("2 of 4 partitions left");
    assert_eq!(ready(), (503, "partitions assigned: none yet\nstate restored: 2 of 4 partitions left\n".to_owned()));
    assigned.ok();
    restored.ok();
    assert_eq!(ready(), (200, "ready\n".to_owned()));
    restored.fail("1 of 5 partitions left");
    assert_eq!(ready(), (503, "state restored: 1 of 5 partitions left\n".to_owned()));
    assert_eq!(get(server.address(), "/healthz").unwrap(), (200, "alive\n".to_owned()), "alive all the time");
    restored.ok();
    shutdown.request();
    assert_eq!(ready(), (503, "shutting down\n".to_owned()));
}

#[test]
fn metrics_registered_while_the_server_runs_are_served_and_a_dropped_server_is_gone() {
    let metrics = Metrics::new();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = HttpServer::start(any_port, Health::new(), metrics.clone(), Shutdown::new()).unwrap();
    let address = server.address();
    let rows = Counter::<u64>::default();
    metrics.register("test", |registry| registry.register("rows", "Rows", rows.clone()));
    rows.inc_by(3);
    let (status, body) = get(address, "/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(body.lines().any(|line| line == "recwatch_test_rows_total 3"), "{body}");
    drop(server);
    assert!(get(address, "/metrics").is_err());
}

fn serving() -> HttpServer {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    HttpServer::start(any_port, Health::new(), Metrics::new(), Shutdown::new()).unwrap()
}

/// A connection that has sent `bytes` and does not block.
fn connection(server: &HttpServer, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // It may be closed already.
    let _ = stream.write_all(bytes);
    stream.set_nonblocking(true).unwrap();
    stream
}

fn is_closed(mut stream: &TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1024]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

const HALF: &[u8] = b"GET /healthz HTTP/1.1\r\nX: ";

#[test]
fn half_requests_are_held_by_the_dozen_closed_after_ten_seconds_and_keep_nobody_out() {
    let server = serving();
    let mut held = Vec::new();
    let begun = Instant::now();
    for count in 1..=400 {
        held.push(connection(&server, HALF));
        if count % 50 == 0 {
            assert_eq!(get(server.address(), "/healthz").unwrap().0, 200, "behind {count} half requests");
        }
    }
    let end = begun + Duration::from_secs(60);
    let mut open = held.len();
    while open > 64 {
        open = held.iter().filter(|stream| !is_closed(stream)).count();
        assert!(Instant::now() < end, "{open} connections stay open");
        std::thread::sleep(Duration::from_millis(20));
    }
    while held.iter().any(|stream| !is_closed(stream)) {
        assert!(Instant::now() < end, "half requests stay open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(get(server.address(), "/healthz").unwrap().0, 200);
}

#[test]
fn a_connection_is_closed_behind_its_answer_and_slow_bodies_keep_none_open() {
    let server = serving();
    let kept = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\n\r\n";
    let slow_body = b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx";
    for request in [&kept[..], slow_body] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("alive\n"), "{answer}");
    }
}

#[test]
fn a_request_head_that_is_too_large_is_refused() {
    let server = serving();
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    for request in [long, many] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        // Closed before all was sent, it may be a reset.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
