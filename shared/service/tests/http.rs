//! The way to readiness as a probe sees it over HTTP.

use std::net::{Ipv4Addr, SocketAddr};

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
