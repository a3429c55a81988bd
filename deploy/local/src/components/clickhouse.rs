//! The ClickHouse engine in a Python process, behind `gateway.py`.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::{LogSince, Place};
use crate::component::Component;
use crate::processes::Launch;
use crate::{downloads, http};

const GATEWAY: &str = include_str!("gateway.py");

pub(super) fn launch(place: &Place, port: u16) -> Result<Launch> {
    let home = place.home(Component::ClickHouse)?;
    let script = home.join("gateway.py");
    fs::write(&script, GATEWAY)?;
    let arguments = vec![
        // Unbuffered, so that the log is complete when the process is killed.
        "-u".into(),
        script.into(),
        format!("--port={port}").into(),
        "--path".into(),
        home.join("data").into(),
        place.mark(),
    ];
    Ok(place.launch(Component::ClickHouse, &downloads::engine_python(&place.files), arguments))
}

pub(super) fn answers(port: u16, log: &LogSince) -> bool {
    log.read().contains("listening on")
        && http::get(&format!("http://127.0.0.1:{port}/ping"), Duration::from_secs(5))
            .is_ok_and(|answer| answer.status == 200)
}
