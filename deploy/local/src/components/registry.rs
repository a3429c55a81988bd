//! Apicurio Registry, for its implementation of Confluent's schema registry API.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{LogSince, Place};
use crate::component::Component;
use crate::http;
use crate::processes::Launch;

const HEAP_MB: u32 = 512;
/// Where it serves Confluent's API.
pub(crate) const API: &str = "/apis/ccompat/v7";

pub(super) fn launch(place: &Place, port: u16) -> Result<Launch> {
    let database = place.home(Component::Registry)?.join("schemas");
    // By default it keeps schemas in memory. A registry that comes back from an outage must know the ids that it gave,
    // so they go to a file, at once.
    let mut storage = OsString::from("-Dapicurio.datasource.url=jdbc:h2:file:");
    storage.push(&database);
    storage.push(";WRITE_DELAY=0");
    let mut arguments = place.java(Component::Registry, HEAP_MB)?;
    arguments.extend([
        "-Dquarkus.http.host=127.0.0.1".into(),
        format!("-Dquarkus.http.port={port}").into(),
        // For the line that says where it listens.
        "-Dquarkus.log.category.\"io.quarkus\".level=INFO".into(),
        "-Dapicurio.storage.kind=sql".into(),
        "-Dapicurio.storage.sql.kind=h2".into(),
        storage,
        "-jar".into(),
        runner(place)?.into(),
    ]);
    Ok(place.launch(Component::Registry, &place.tools.java, arguments))
}

pub(super) fn answers(port: u16, log: &LogSince) -> bool {
    log.read().contains("Listening on: ")
        && http::get(&format!("http://127.0.0.1:{port}{API}/subjects"), Duration::from_secs(5))
            .is_ok_and(|answer| answer.status == 200)
}

fn runner(place: &Place) -> Result<PathBuf> {
    fs::read_dir(&place.files)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.to_string_lossy().ends_with("-runner.jar"))
        .with_context(|| format!("{} holds no *-runner.jar: remove that folder and start again", place.files.display()))
}
