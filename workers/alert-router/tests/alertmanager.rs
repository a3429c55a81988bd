//! A real Alertmanager shows what fires, and then that it is over.

#[path = "common/peers.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod peers;
#[path = "common/rig.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;
mod support;

use records::{Alert, AlertState};
use rig::{DEADLINE, Rig, get};
use serde_json::Value;
use stack::{Launch, Process};
use testkit::eventually;

/// As Debian calls it, and as its own archive does.
const PROGRAMS: [&str; 2] = ["prometheus-alertmanager", "alertmanager"];

fn program() -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).flat_map(|folder| PROGRAMS.map(|name| folder.join(name)));
    found.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("this test needs an Alertmanager: apt-get install prometheus-alertmanager (or put one into PATH)")
    })
}

/// The alerts that it shows as active.
fn shown(url: &str) -> Option<Vec<Value>> {
    // its answers come in chunks, of which JSON of one line is the longest
    let body = get(&format!("{url}/api/v2/alerts?active=true"))?;
    body.lines().find_map(|line| serde_json::from_str(line).ok())
}

#[test]
fn an_alert_is_shown_while_it_fires_and_its_end_is_told_on() {
    let port = stack::free_port().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let routes = format!(
        r#"
        [route]
        receiver = "alertmanager"
        [receivers.alertmanager]
        type = "alertmanager"
        url = "{url}"
        resend_interval = "1s"
        "#
    );
    let rig = Rig::new("consumer", &routes);
    let directory = rig.directory.path();
    let config = format!(
        "route:\n  receiver: hook\n  group_wait: 1s\n  group_interval: 1s\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: {}/hook\n",
        rig.peers.url
    );
    std::fs::write(directory.join("alertmanager.yml"), config).unwrap();
    let argument = |name: &str, value: String| format!("--{name}={value}").into();
    let alertmanager = Process::start(&Launch {
        name: "alertmanager".to_owned(),
        program: program(),
        arguments: vec![
            argument("config.file", directory.join("alertmanager.yml").display().to_string()),
            argument("storage.path", directory.join("alertmanager-data").display().to_string()),
            argument("web.listen-address", format!("127.0.0.1:{port}")),
            argument("cluster.listen-address", String::new()),
        ],
        log: directory.join("alertmanager.log"),
        ..Launch::default()
    })
    .unwrap();

    // The router is there first: what it cannot tell, it tells later.
    let router = rig.start("one").active();
    let now = alert_router::active::now();
    let fires = Alert {
        started_at: now - 60_000,
        window_end: now - 60_000,
        ..support::alert("slow", "warning", "books", 1, 1, AlertState::Firing)
    };
    rig.send(std::slice::from_ref(&fires));
    let alerts =
        eventually("the alert at the Alertmanager", DEADLINE, || shown(&url).filter(|alerts| alerts.len() == 1));
    assert_eq!(alerts[0]["labels"]["alertname"], "slow");
    assert_eq!(alerts[0]["labels"]["domain"], "books");
    assert_eq!(alerts[0]["annotations"]["summary"], fires.summary.as_str());
    eventually("the Alertmanager's own notification", DEADLINE, || {
        rig.peers.hooks().iter().any(|hook| hook.status() == "firing").then_some(())
    });
    // Longer than the Alertmanager would believe it without being told again: four times resend_interval.
    let first_end = alerts[0]["endsAt"].clone();
    eventually("an end that moves ahead", DEADLINE, || {
        shown(&url).filter(|alerts| alerts.len() == 1 && alerts[0]["endsAt"] != first_end)
    });

    rig.send(&[Alert { state: AlertState::Resolved, sequence: 2, window_end: now, ..fires }]);
    eventually("no alert at the Alertmanager", DEADLINE, || shown(&url).filter(Vec::is_empty));
    let over = eventually("its notification of the end", DEADLINE, || {
        rig.peers.hooks().into_iter().find(|hook| hook.status() == "resolved")
    });
    assert_eq!(over.json()["alerts"][0]["labels"]["domain"], "books");
    router.stop();
    drop(alertmanager);
}
