//! The components' files, downloaded once into a cache and reused.
//!
//! They come through Maven and pip as this machine has them configured, so that mirrors and proxies are respected.

mod cache;
mod maven;
mod python;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::component::Component;
use crate::prerequisites::Tools;
use crate::processes::{Launch, Process};
use crate::progress::Progress;
pub(crate) use cache::Cache;

/// Apache Kafka: Apache-2.0.
const KAFKA_VERSION: &str = "4.1.1";
/// The logging backend that the jars on Maven Central do not bring along.
const LOG4J_VERSION: &str = "2.24.3";
/// Apicurio Registry: Apache-2.0.
const REGISTRY_VERSION: &str = "3.0.9";
/// The ClickHouse engine as a Python module: Apache-2.0.
const ENGINE_VERSION: &str = "26.9.0";

/// How often a download is begun: mirrors fail now and then, and transfers stand still.
const ATTEMPTS: u32 = 3;

/// Where a component's files are; downloads them if they are not there yet.
///
/// # Errors
/// The download fails; the error shows what Maven or pip said.
pub(crate) fn fetch(component: Component, cache: &Cache, tools: &Tools, progress: &dyn Progress) -> Result<PathBuf> {
    let name = component.name();
    match component {
        Component::Kafka => cache.get(&format!("kafka-{KAFKA_VERSION}"), name, progress, |directory| {
            progress.update(name, &format!("downloading Kafka {KAFKA_VERSION} with Maven (50 MB)"));
            let pom = maven::pom(&[
                ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
                ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
            ]);
            maven::copy_dependencies(tools, &pom, directory, progress)?;
            progress.update(name, "preparing the storage format");
            crate::components::kafka::prepare(tools, directory)
        }),
        Component::Registry => {
            cache.get(&format!("apicurio-registry-{REGISTRY_VERSION}"), name, progress, |directory| {
                progress.update(name, &format!("downloading Apicurio Registry {REGISTRY_VERSION} with Maven (110 MB)"));
                let artifact = format!("io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all");
                maven::unpack(tools, &artifact, directory, progress)
            })
        }
        Component::ClickHouse => cache.get(&python::cache_name(tools, ENGINE_VERSION), name, progress, |directory| {
            progress.update(name, &format!("downloading the ClickHouse engine {ENGINE_VERSION} with pip (150 MB)"));
            python::install(tools, &format!("chdb-core=={ENGINE_VERSION}"), directory, progress)
        }),
    }
}

/// Runs what downloads, and again where it fails.
fn download(launch: &Launch, deadline: Duration, progress: &dyn Progress) -> Result<()> {
    for _ in 1..ATTEMPTS {
        let Err(error) = Process::run(launch, deadline) else { return Ok(()) };
        progress.tell(&format!("{error:#}\n{} is tried again", launch.name));
    }
    Process::run(launch, deadline).map(|_| ())
}

/// The interpreter that has the ClickHouse engine, in its downloaded folder.
pub(crate) fn engine_python(directory: &Path) -> PathBuf {
    python::interpreter(directory)
}
