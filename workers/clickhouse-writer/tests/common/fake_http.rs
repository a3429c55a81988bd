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
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// What the server does about a request.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Answers with a status and a text.
    Answer(u16, String),
    /// Closes the connection without an answer.
    Cut,
}

type Handler = dyn Fn(&Request) -> Action + Send + Sync;

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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (handler, seen): (Arc<Handler>, _) = (Arc::new(handler), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (handler.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, &*handler, &seen));
            }
        });
        Self { url, requests }
    }
}

fn serve(stream: TcpStream, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        let action = handler(&request);
        seen.lock().unwrap().push(request);
        let Action::Answer(status, text) = action else {
            return;
        };
        let head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n\r\n", text.len());
        if stream.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
    }
    let mut body = Vec::new();
    if chunked {
        while let Some(chunk) = chunk(reader).filter(|chunk| !chunk.is_empty()) {
            body.extend_from_slice(&chunk);
        }
    } else {
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let parameters = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    Some(Request { path: path.to_owned(), parameters, body })
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
