//! The registry client against a small server that answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use records::{
    AvroRecord, LookupError, Registry, RegistryConfig, RegistryError, SchemaLookup, SchemaRef, SessionEntropy,
};
use tokio::net::TcpSocket;

/// What the server does with one request.
enum Reply {
    Answer(u16, &'static str),
    /// Closes the connection without an answer.
    Close,
    /// Holds the connection open without an answer, until the server ends.
    Silence,
}

use Reply::{Answer, Close, Silence};

const FOUND: Reply = Answer(200, r#"{"schema":"\"string\""}"#);
const UNKNOWN: Reply = Answer(404, r#"{"error_code":40403,"message":"Schema 5 not found"}"#);

/// Answers one request after the other; each is noted as `METHOD path body`, headers apart.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    thread: Option<JoinHandle<usize>>,
}

impl Server {
    fn start(replies: Vec<Reply>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), replies)
    }

    fn on(listener: TcpListener, replies: Vec<Reply>) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let thread = std::thread::spawn(move || {
            let mut replies = replies.into_iter();
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&stream) else { break };
                noted.lock().unwrap().push(request);
                // a request too many is refused, so that the client does not ask on for ever
                match replies.next().unwrap_or(Answer(418, "the script has no reply left")) {
                    Answer(status, body) => {
                        let length = body.len();
                        write!(
                            stream,
                            "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                        )
                        .unwrap();
                    }
                    Close => {}
                    Silence => held.push(stream),
                }
            }
            replies.count()
        });
        Self { address, seen, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}/base", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(request, _)| request.clone()).collect()
    }

    /// Ends the server; every reply must have been asked for.
    fn end(mut self) {
        drop(TcpStream::connect(self.address).unwrap());
        let left = self.thread.take().unwrap().join().unwrap();
        assert_eq!(left, 0, "replies that nobody asked for; asked: {:?}", self.requests());
    }
}

/// (`METHOD path body`, headers); none where the connection ends at once.
fn read_request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut words = first.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.push_str(&format!("{}:{value}", name.to_lowercase()));
    }
    let length = headers
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some((format!("{method} {path} {}", String::from_utf8(body).unwrap()).trim().to_owned(), headers))
}

fn config(url: String) -> RegistryConfig {
    RegistryConfig {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        unknown_for: Duration::from_secs(3600),
        patience: None,
        ..RegistryConfig::new(url)
    }
}

fn registry(config: RegistryConfig) -> Registry {
    Registry::new(config, || false).unwrap()
}

/// A port that refuses connections, and is nobody else's while the socket lives.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Looks schema 5 up without patience until the reason for there being none holds `expected`.
fn unavailable(registry: &Registry, expected: &str) -> String {
    let (registry, end) = (registry.blocking(Some(Duration::ZERO)), Instant::now() + Duration::from_secs(60));
    loop {
        match registry.schema(SchemaRef::Id(5)) {
            Err(LookupError::Unavailable { message, .. }) if message.contains(expected) => return message,
            Err(LookupError::Unavailable { message, .. }) => assert!(Instant::now() < end, "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_schema_is_fetched_once_for_all_clones() {
    let server = Server::start(vec![FOUND]);
    let registry = registry(config(server.url() + "/"));
    assert_eq!(&*registry.schema(SchemaRef::Id(5)).unwrap().text, "\"string\"");
    assert_eq!(&*registry.clone().schema(SchemaRef::Id(5)).unwrap().text, "\"string\"");
    assert_eq!(server.requests(), ["GET /base/schemas/ids/5"]);
    server.end();
}

#[test]
fn a_registry_that_is_down_at_first_is_asked_again_until_it_is_up() {
    let (socket, address) = refusing();
    let patient = registry(config(format!("http://{address}")));
    let other = registry(config(format!("http://{address}")));
    unavailable(&other, &address.to_string());

    let waiting = std::thread::spawn(move || patient.schema(SchemaRef::Id(5)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listener = runtime.block_on(async { socket.listen(16).unwrap().into_std().unwrap() });
    listener.set_nonblocking(false).unwrap();
    let server = Server::on(listener, vec![FOUND, FOUND]);
    assert_eq!(&*waiting.join().unwrap().unwrap().text, "\"string\"");
    assert_eq!(&*other.schema(SchemaRef::Id(5)).unwrap().text, "\"string\"", "that it was down is not remembered");
    server.end();
}

#[test]
fn errors_of_the_server_and_broken_connections_are_asked_again() {
    let server =
        Server::start(vec![Answer(500, ""), Close, Answer(503, "{}"), Answer(429, ""), Answer(200, "<html>"), FOUND]);
    assert_eq!(&*registry(config(server.url())).schema(SchemaRef::Id(5)).unwrap().text, "\"string\"");
    server.end();
}

#[test]
fn silence_ends_with_the_request_timeout_and_is_asked_again() {
    let server = Server::start(vec![Silence, FOUND]);
    let impatient = RegistryConfig { request_timeout: Duration::from_secs(2), ..config(server.url()) };
    assert_eq!(&*registry(impatient).schema(SchemaRef::Id(5)).unwrap().text, "\"string\"");
    server.end();
}

#[test]
fn an_unknown_id_is_a_definite_answer_that_is_remembered_for_a_while() {
    let server = Server::start(vec![UNKNOWN]);
    let remembering = registry(config(server.url()));
    let is_unknown = |registry: &Registry| matches!(registry.schema(5.into()), Err(LookupError::Unknown { .. }));
    assert!(is_unknown(&remembering) && is_unknown(&remembering));
    assert_eq!(server.requests().len(), 1);
    server.end();
}

#[test]
fn a_negative_id_is_unknown_without_a_question() {
    let server = Server::start(vec![]);
    let unknown = registry(config(server.url())).schema(SchemaRef::Id(-1));
    assert!(matches!(unknown, Err(LookupError::Unknown { schema: SchemaRef::Id(-1), .. })));
    server.end();
}

#[test]
fn not_found_by_somebody_else_says_nothing_about_a_schema() {
    let server = Server::start(vec![Answer(404, "<html>no such page</html>"), FOUND]);
    assert_eq!(&*registry(config(server.url())).schema(SchemaRef::Id(5)).unwrap().text, "\"string\"");
    server.end();
}

#[test]
fn a_refused_lookup_is_no_answer_and_is_not_remembered() {
    let server = Server::start(vec![Answer(401, r#"{"error_code":40101,"message":"who are you?"}"#), FOUND]);
    let registry = registry(config(server.url()));
    let message = unavailable(&registry, "401");
    assert!(message.contains("who are you?") && message.contains("registry.password"), "{message}");
    assert_eq!(&*registry.schema(SchemaRef::Id(5)).unwrap().text, "\"string\"");
    server.end();
}

#[test]
fn waiting_ends_when_the_process_stops() {
    let server = Server::start(vec![Silence]);
    let asked = server.seen.clone();
    let patient = RegistryConfig { request_timeout: Duration::from_secs(3600), ..config(server.url()) };
    // stops as soon as the question has reached the server
    let registry = Registry::new(patient, move || !asked.lock().unwrap().is_empty()).unwrap();
    assert_eq!(registry.schema(SchemaRef::Id(5)), Err(LookupError::Stopped { schema: SchemaRef::Id(5) }));
    server.end();

    let down = Arc::new(AtomicBool::new(false));
    let stop = down.clone();
    let (_socket, address) = refusing();
    // stops at the second look: during the first request or the first pause
    let registry =
        Registry::new(config(format!("http://{address}")), move || stop.swap(true, Ordering::Relaxed)).unwrap();
    assert!(matches!(registry.register("t-value", "{}"), Err(RegistryError::Stopped { .. })));
}

#[test]
fn a_schema_is_registered_with_its_compatibility_before_and_checked_behind() {
    let server = Server::start(vec![
        Answer(404, r#"{"error_code":40408,"message":"no rule"}"#),
        Answer(200, r#"{"compatibility":"BACKWARD"}"#),
        Answer(200, r#"{"id":17}"#),
        Answer(200, r#"{"compatibilityLevel":"BACKWARD"}"#),
    ]);
    let id = registry(config(server.url())).register_for::<SessionEntropy<'static>>("recwatch.session-entropy.v1");
    assert_eq!(id, Ok(17));
    let requests = server.requests();
    assert_eq!(requests[0], "GET /base/config/recwatch.session-entropy.v1-value");
    assert_eq!(requests[1], r#"PUT /base/config/recwatch.session-entropy.v1-value {"compatibility":"BACKWARD"}"#);
    let (path, body) = requests[2].split_once(' ').unwrap().1.split_once(' ').unwrap();
    assert_eq!(path, "/base/subjects/recwatch.session-entropy.v1-value/versions");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["schema"], SessionEntropy::SCHEMA);
    server.end();
}

#[test]
fn a_registry_that_knows_rules_only_of_known_subjects_is_told_behind() {
    let server = Server::start(vec![
        Answer(404, r#"{"error_code":40401,"message":"no subject"}"#),
        Answer(404, r#"{"error_code":40401,"message":"no subject"}"#),
        Answer(200, r#"{"id":17}"#),
        Answer(200, r#"{"compatibilityLevel":"NONE"}"#),
        Answer(200, r#"{"compatibility":"BACKWARD"}"#),
    ]);
    assert_eq!(registry(config(server.url())).register("t-value", "{}"), Ok(17));
    assert!(server.requests()[4].starts_with("PUT"));
    server.end();
}

#[test]
fn a_rule_that_another_instance_sets_at_the_same_time_is_good() {
    let backward = || Answer(200, r#"{"compatibilityLevel":"BACKWARD"}"#);
    let server = Server::start(vec![
        Answer(404, r#"{"error_code":40401,"message":"no subject"}"#),
        Answer(409, r#"{"error_code":409,"message":"A rule named 'COMPATIBILITY' already exists."}"#),
        backward(),
        Answer(200, r#"{"id":17}"#),
        backward(),
    ]);
    assert_eq!(registry(config(server.url())).register("t-value", "{}"), Ok(17));
    server.end();
}

#[test]
fn a_stricter_rule_of_somebody_else_stays() {
    let full = || Answer(200, r#"{"compatibilityLevel":"FULL_TRANSITIVE"}"#);
    let server = Server::start(vec![full(), Answer(200, r#"{"id":17}"#), full()]);
    assert_eq!(registry(config(server.url())).register("t-value", "{}"), Ok(17));
    server.end();
}

#[test]
fn an_incompatible_schema_is_refused_with_what_the_registry_says() {
    let rule = Answer(200, r#"{"compatibilityLevel":"BACKWARD"}"#);
    let incompatible = Answer(409, r#"{"error_code":409,"message":"READER_FIELD_MISSING_DEFAULT_VALUE"}"#);
    let server = Server::start(vec![rule, incompatible]);
    let error = registry(config(server.url())).register("t-value", "{}").unwrap_err().to_string();
    assert!(error.contains("t-value") && error.contains("READER_FIELD_MISSING_DEFAULT_VALUE"), "{error}");
    assert!(error.contains(&server.url()), "{error}");
    server.end();
}

#[test]
fn user_and_password_are_sent_and_never_shown() {
    let server = Server::start(vec![FOUND]);
    let user = Some("user".to_owned());
    let config = RegistryConfig { user, password: Some("secret".to_owned()), ..config(server.url()) };
    let shown = format!("{config:?}");
    assert!(shown.contains("***") && !shown.contains("secret"), "{shown}");
    registry(config).schema(SchemaRef::Id(5)).unwrap();
    // base64 of user:secret
    assert!(server.seen.lock().unwrap()[0].1.contains("Basic dXNlcjpzZWNyZXQ="));
    server.end();
}

#[test]
fn a_configuration_that_cannot_work_names_its_key() {
    let key = |config: RegistryConfig| match Registry::new(config, || false) {
        Err(RegistryError::Config { key, message, .. }) => {
            assert!(!message.contains("secret"));
            key
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    };
    for url in ["", "localhost:8081", "ftp://localhost", "http://user:secret@localhost", "http://a,user:secret@b"] {
        assert_eq!(key(RegistryConfig::new(url)), "url", "{url}");
    }
    for path in ["/does/not/exist.pem", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")] {
        let config = RegistryConfig { ca_location: Some(path.into()), ..RegistryConfig::new("https://localhost") };
        assert_eq!(key(config), "ca_location", "{path}");
    }
}

#[test]
fn a_registry_may_be_dropped_inside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(registry(RegistryConfig::new("http://localhost"))) });
}
