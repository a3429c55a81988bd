//! A proxy before ClickHouse that fails as a test wants it.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with this status and a page; ClickHouse does not see it.
    Page(u16),
    /// It is answered with an empty 200; ClickHouse does not see it.
    Empty,
    /// ClickHouse has done it, and nobody hears of that.
    LoseAnswer,
    /// It is never answered.
    Hang,
}

/// How the proxy treats inserts, or everything.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// What becomes of the next inserts, in their order.
    pub(crate) next: VecDeque<Fault>,
    /// What becomes of all other requests.
    pub(crate) always: Option<Fault>,
    /// Bodies above so many bytes are refused as nginx does: 413 and a page.
    pub(crate) limit: Option<usize>,
    /// ClickHouse's headers are not passed on.
    pub(crate) strips_headers: bool,
}

/// The proxy; it runs until the test process ends.
pub(crate) struct FaultProxy {
    pub(crate) url: String,
    faults: Arc<Mutex<Faults>>,
}

impl FaultProxy {
    pub(crate) fn before(target: &str, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let faults = Arc::new(Mutex::new(faults));
        let (target, shared) = (target.to_owned(), faults.clone());
        std::thread::spawn(move || {
            let client = reqwest::blocking::Client::builder().no_proxy().timeout(None).build().unwrap();
            for stream in listener.incoming().flatten() {
                let (client, target, shared) = (client.clone(), target.clone(), shared.clone());
                std::thread::spawn(move || serve(stream, &client, &target, &shared));
            }
        });
        Self { url, faults }
    }

    /// Changes what happens.
    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// How many of the next faults have not happened yet.
    pub(crate) fn left(&self) -> usize {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).next.len()
    }
}

/// A request without its body: path with the query, headers, bytes of the body.
struct Head {
    target: String,
    headers: Vec<(String, String)>,
    length: usize,
}

fn serve(mut stream: TcpStream, client: &reqwest::blocking::Client, target: &str, faults: &Mutex<Faults>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(head) = read_head(&mut reader) {
        let mut body = vec![0; head.length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let (fault, strips_headers) = {
            let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
            let is_insert = head.target.contains("query=INSERT");
            let next = if is_insert { faults.next.pop_front() } else { None };
            let too_large = faults.limit.is_some_and(|limit| body.len() > limit).then_some(Fault::Page(413));
            (next.or(too_large).or(faults.always), faults.strips_headers)
        };
        let page = |status: u16| format!("<html><head><title>{status} of a proxy</title></head></html>\r\n");
        let (status, headers, body) = match fault {
            Some(Fault::Page(status)) => (status, Vec::new(), page(status).into_bytes()),
            Some(Fault::Empty) => (200, Vec::new(), Vec::new()),
            Some(Fault::Hang) => loop {
                std::thread::park_timeout(Duration::from_secs(3600));
            },
            None | Some(Fault::LoseAnswer) => forward(client, target, &head, body),
        };
        if fault == Some(Fault::LoseAnswer) {
            return;
        }
        let headers = if strips_headers { Vec::new() } else { headers };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {status} Of a proxy\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

/// ClickHouse's answer: status, its own headers, body; 502 where there is none.
fn forward(
    client: &reqwest::blocking::Client,
    target: &str,
    head: &Head,
    body: Vec<u8>,
) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut request = client.post(format!("{target}{}", head.target)).body(body);
    for (name, value) in head.headers.iter().filter(|(name, _)| name.starts_with("content-encoding")) {
        request = request.header(name, value);
    }
    let Ok(answer) = request.send() else { return (502, Vec::new(), Vec::new()) };
    let headers = answer.headers().iter();
    let headers = headers.filter(|(name, _)| name.as_str().starts_with("x-clickhouse"));
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
    let headers = headers.collect();
    (answer.status().as_u16(), headers, answer.bytes().map(|bytes| bytes.to_vec()).unwrap_or_default())
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Head> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(Some(0), |(_, length)| length.parse().ok())?;
    Some(Head { target, headers, length })
}
