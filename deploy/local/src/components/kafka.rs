//! Kafka: one KRaft node that is broker and controller.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::seq::IndexedRandom;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{Place, ProxiedListener};
use crate::component::Component;
use crate::ports;
use crate::prerequisites::Tools;
use crate::processes::{Launch, Process};

const HEAP_MB: u32 = 1024;
/// A broker that was killed is let in again only when the session that it had is over.
const SESSION_AFTER_RESTART: Duration = Duration::from_secs(9);
/// What the storage format tool writes, apart from the ids.
const BOOTSTRAP: &str = "bootstrap.checkpoint";

/// Settings that do not depend on where the broker runs.
///
/// Timeouts are short because tests kill things and wait for the consequences; memory is small because several stacks may
/// run at once; records may be 8 MiB because sources accept 4 MiB and dead letters carry them with headers; nothing is
/// deleted by age because recordings are replayed with the timestamps of today, whenever that is.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT

auto.create.topics.enable=false
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
log.retention.ms=-1
log.retention.bytes=-1

offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=6000
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=1000

num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.threads=1
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
";

const LOGGING: &str = "\
status=ERROR
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %c{1}: %m%n
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
logger.kafka.name=kafka
logger.kafka.level=INFO
logger.coordinator.name=org.apache.kafka.coordinator
logger.coordinator.level=INFO
";

/// Runs the storage format tool once, into the downloaded files. A stack then copies the result and writes ids of its
/// own beside it, which saves it the start of a Java machine.
pub(crate) fn prepare(tools: &Tools, files: &Path) -> Result<()> {
    let properties = files.join("format.properties");
    let data = files.join("format");
    fs::write(&properties, server_properties(&data, 1, 2, None))?;
    let arguments = [
        "-cp".into(),
        class_path(files),
        "kafka.tools.StorageTool".into(),
        "format".into(),
        "--cluster-id".into(),
        new_id().into(),
        "--config".into(),
        properties.into(),
    ];
    let launch = Launch {
        name: "Kafka's storage format tool".to_owned(),
        program: tools.java.clone(),
        arguments: arguments.into(),
        log: files.join("format.log"),
        ..Launch::default()
    };
    Process::run(&launch, Duration::from_secs(120))?;
    fs::rename(data.join(BOOTSTRAP), files.join(BOOTSTRAP))
        .with_context(|| format!("Kafka's storage format tool wrote no {BOOTSTRAP}"))
}

pub(super) fn launch(place: &Place, port: u16) -> Result<Launch> {
    let home = place.home(Component::Kafka)?;
    let data = home.join("data");
    let is_new = !data.join("meta.properties").exists();
    if is_new {
        fs::create_dir_all(&data)?;
        fs::copy(place.files.join(BOOTSTRAP), data.join(BOOTSTRAP))?;
        let meta = format!("version=1\nnode.id=1\ncluster.id={}\ndirectory.id={}\n", new_id(), new_id());
        fs::write(data.join("meta.properties"), meta)?;
    }
    let properties = home.join("server.properties");
    let session = if is_new { place.broker_session } else { place.broker_session.min(SESSION_AFTER_RESTART) };
    let session = format!("broker.session.timeout.ms={}\n", session.as_millis());
    let controller = ports::free_port_beside(port)?;
    fs::write(&properties, server_properties(&data, port, controller, place.proxied_listener) + &session)?;
    let logging = home.join("log4j2.properties");
    fs::write(&logging, LOGGING)?;

    let mut arguments = place.java(Component::Kafka, HEAP_MB)?;
    let mut configuration = std::ffi::OsString::from("-Dlog4j2.configurationFile=");
    configuration.push(&logging);
    arguments.extend([configuration, "-cp".into(), class_path(&place.files), "kafka.Kafka".into(), properties.into()]);
    Ok(place.launch(Component::Kafka, &place.tools.java, arguments))
}

/// Whether our broker answers: the one with our cluster id.
pub(super) fn answers(place: &Place, port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err() {
        return false;
    }
    let Ok(meta) = fs::read_to_string(place.directory.join("kafka/data/meta.properties")) else { return false };
    let ours = meta.lines().find_map(|line| line.strip_prefix("cluster.id="));
    let client: Result<BaseConsumer, _> =
        ClientConfig::new().set("bootstrap.servers", address.to_string()).set("log_level", "0").create();
    let cluster = client.ok().and_then(|client| client.client().fetch_cluster_id(Duration::from_secs(5)));
    cluster.is_some() && cluster.as_deref() == ours
}

fn server_properties(data: &Path, port: u16, controller_port: u16, proxied: Option<ProxiedListener>) -> String {
    // A backslash begins an escape in Java's property files.
    let data = data.display().to_string().replace('\\', "\\\\");
    let (listener, advertised) = proxied.map_or_else(Default::default, |proxied| {
        let listener = |port: u16| format!(",PROXIED://127.0.0.1:{port}");
        (listener(proxied.port), listener(proxied.advertised))
    });
    format!(
        "{SETTINGS}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listener}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data}
"
    )
}

fn class_path(files: &Path) -> std::ffi::OsString {
    files.join("libs/*").into()
}

/// 16 random bytes in the form that Kafka gives its ids: URL-safe base64 without padding (22 characters, the last of
/// which carries two bits), here without the characters that a command line could take for an option.
fn new_id() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    let mut pick = |letters: &[u8]| letters.choose(&mut random).map_or('A', |letter| char::from(*letter));
    let mut id: String = (0..21).map(|_| pick(LETTERS)).collect();
    id.push(pick(b"AQgw"));
    id
}
