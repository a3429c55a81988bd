//! A small HTTP server that answers as a test tells it, or cuts the connection instead.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it arrived, its body whole.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The path, without the query.
    pub(crate) path: String,
    /// The query's parameters, decoded.
    pub(crate) parameters: BTreeMap<String, String>,
    /// The headers, names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// What is known of a request before its body.
#[derive(Debug)]
pub(crate) struct Head {
    target: String,
    headers: BTreeMap<String, String>,
    /// Bytes of the body, where the header names them.
    pub(crate) length: usize,
}

/// What the server does about a request.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Answers with a status and a text.
    Answer(u16, String),
    /// Answers with a status, headers and a text.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// Closes the connection without an answer.
    Cut,
}

type Handler = dyn Fn(&Request) -> Action + Send + Sync;
type Early = dyn Fn(&Head) -> Option<Action> + Send + Sync;

/// The server; it runs until the test process ends.
pub(crate) struct FakeHttp {
    /// Its address.
    pub(crate) url: String,
    /// What was asked, in order.
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeHttp {
    /// Starts on a free loopback port.
    pub(crate) fn start(handler: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Self {
        Self::start_looking_at_heads(|_| None, handler)
    }

    /// The same; what `early` answers is answered before the body is read, and nothing of the body is kept.
    pub(crate) fn start_looking_at_heads(
        early: impl Fn(&Head) -> Option<Action> + Send + Sync + 'static,
        handler: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (early, handler): (Arc<Early>, Arc<Handler>) = (Arc::new(early), Arc::new(handler));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (early, handler, seen) = (early.clone(), handler.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, &*early, &*handler, &seen));
            }
        });
        Self { url, requests }
    }
}

fn serve(stream: TcpStream, early: &Early, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(head) = read_head(&mut reader) {
        if let Some(action) = early(&head) {
            if answer(&mut stream, action) {
                // the connection closes when the client has closed it
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
            }
            return;
        }
        let Some(request) = read_body(&mut reader, head) else { return };
        let action = handler(&request);
        seen.lock().unwrap().push(request);
        if !answer(&mut stream, action) {
            return;
        }
    }
}

/// Whether the connection goes on.
fn answer(stream: &mut TcpStream, action: Action) -> bool {
    let (status, headers, text) = match action {
        Action::Answer(status, text) => (status, Vec::new(), text),
        Action::Whole(status, headers, text) => (status, headers, text),
        Action::Cut => return false,
    };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    // what these statuses never have
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", text.len()) };
    let head = format!("HTTP/1.1 {status} Status\r\n{headers}{length}\r\n");
    stream.write_all((head + &text).as_bytes()).is_ok()
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Head> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    Some(Head { target, headers, length })
}

fn read_body(reader: &mut BufReader<TcpStream>, head: Head) -> Option<Request> {
    let mut body = Vec::new();
    if head.headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        while let Some(chunk) = chunk(reader).filter(|chunk| !chunk.is_empty()) {
            body.extend_from_slice(&chunk);
        }
    } else {
        body.resize(head.length, 0);
        reader.read_exact(&mut body).ok()?;
    }
    let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
    let parameters = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    Some(Request { path: path.to_owned(), parameters, headers: head.headers, body })
}

fn chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).ok()?;
    let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).ok()?];
    reader.read_exact(&mut chunk).ok()?;
    reader.read_line(&mut String::new()).ok()?;
    Some(chunk)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
