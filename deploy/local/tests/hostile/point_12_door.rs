//! Point 12: the door. Whoever reaches a worker's port or feeds its log costs it nothing and cannot lie.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::rig::{PATIENCE, Rig, alone};

/// Hostile input, point 12: the door. Three thousand half requests keep neither Prometheus out nor descriptors open.
#[test]
fn half_requests_keep_nobody_out_and_are_closed() {
    let _alone = alone();
    let instance = Rig::new("session-entropy", 1).start();
    instance.wait_until_ready();
    let begun = Instant::now();
    let mut held = Vec::new();
    for count in 1..=3_000 {
        // As many as this process may hold.
        let Ok(mut stream) = TcpStream::connect_timeout(&instance.http(), PATIENCE) else { break };
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ");
        held.push(stream);
        if count % 250 == 0 {
            let answer = instance.get("/healthz").unwrap_or_else(|| panic!("no answer behind {count} half requests"));
            assert_eq!(answer.status, 200);
            assert!(descriptors(instance.worker.pid()) < 300, "{}", descriptors(instance.worker.pid()));
            held.truncate(900);
        }
    }
    for mut stream in held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Closed or reset, but not held.
        if let Err(error) = stream.read(&mut [0; 16]) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open after {:?}", begun.elapsed());
        }
    }
    assert!(instance.terminate().success());
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Hostile input, point 12: the door. What another process says cannot pass for a line of the log, and a worker that waits
/// for its registry still ends in time.
#[test]
fn what_comes_from_outside_forges_no_log_line() {
    let _alone = alone();
    let forged = "x\n2026-01-01T00:00:00.000000Z ERROR recwatch: forged\r\u{1b}[2Jforged\u{9b}31m";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("registry.url=http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let length = forged.len();
            let _ = write!(stream, "HTTP/1.1 500 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{forged}");
        }
    });
    for format in ["human", "json"] {
        let instance = Rig::new("session-entropy", 1).set(&url).set(&format!("log.format={format}")).start();
        let log = || std::fs::read_to_string(instance.worker.log()).unwrap_or_default();
        instance.eventually("the registry's answer is logged", || log().contains("forged").then_some(()));
        let log = log();
        let lines: Vec<&str> = log.split(['\n', '\r', '\u{85}', '\u{2028}']).collect();
        assert!(
            !lines.iter().any(|line| line.starts_with("2026-01-01T00:00:00") || line.starts_with("forged")),
            "{log}"
        );
        assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
        let begun = Instant::now();
        let _ = instance.terminate();
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    }
}

/// Hostile input, point 12: the door. No worker shows a secret of a free-form table, whatever it comes from and however it is
/// broken.
#[test]
fn no_worker_shows_a_secret_of_a_free_form_table() {
    let properties = [
        r#"{ "sasl.oauthbearer.client.secret" = "hunter2", "socket.timeout.ms" = "never" }"#,
        r#"{ "sasl.oauthbearer.client.secret" = "hunter2""#,
        r#"{ "sasl.pasword" = "hunter2" }"#,
        r#"["hunter2"]"#,
    ];
    for worker in ["session-entropy", "cosine-decay", "domain-drift", "clickhouse-writer", "alert-router"] {
        let binary = testkit::workers().path(worker).unwrap();
        for table in properties {
            let file = std::env::temp_dir().join(format!("{}.toml", testkit::unique("secrets")));
            std::fs::write(&file, format!("kafka.properties = {table}\n")).unwrap();
            let set = format!("kafka.properties={table}");
            let mut of_file = Command::new(binary);
            of_file.arg("--config").arg(&file);
            let mut of_environment = Command::new(binary);
            of_environment.env("RECWATCH_KAFKA__PROPERTIES", table);
            let mut of_set = Command::new(binary);
            of_set.args(["--set", &set]);
            for command in [&mut of_file, &mut of_environment, &mut of_set] {
                let output = command.arg("--check-config").output().unwrap();
                let told = [output.stdout, output.stderr].concat();
                let told = String::from_utf8_lossy(&told);
                assert!(!output.status.success() && !told.contains("hunter2"), "{worker}: {told}");
            }
            std::fs::remove_file(&file).unwrap();
        }
    }
}
