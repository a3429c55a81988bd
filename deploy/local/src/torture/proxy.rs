//! A proxy on this machine that does harm to what passes through it, in ways that a network, a load balancer or a wrong
//! address do. It works on bytes: before HTTP and before Kafka alike.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::action::{Canned, ProxyFault};

/// A canned answer is sent once the request has come in: when so long nothing more of it came.
const REQUEST_IS_OVER: Duration = Duration::from_millis(100);

/// A running proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    fault: watch::Sender<Option<ProxyFault>>,
    harm: Arc<Harm>,
    _runtime: Runtime,
}

/// What was done.
#[derive(Debug, Default)]
struct Harm {
    /// Answers that came while every n-th is cut off.
    answers: AtomicU64,
    /// Connections and pieces that a fault has hit.
    hits: AtomicU64,
}

impl Harm {
    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }
}

impl Proxy {
    /// Listens on `port` of 127.0.0.1 and passes everything on to `upstream` (`HOST:PORT`).
    ///
    /// # Errors
    /// The port is taken.
    pub(crate) fn start(port: u16, upstream: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = runtime.block_on(TcpListener::bind(address));
        let listener = listener.with_context(|| format!("the proxy of {upstream} cannot listen on {address}"))?;
        let (fault, faults) = watch::channel(None);
        let harm = Arc::new(Harm::default());
        runtime.spawn(serve(listener, upstream.to_owned(), faults, harm.clone()));
        Ok(Self { port, fault, harm, _runtime: runtime })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Does this harm from now on; `None` does none.
    pub(crate) fn set(&self, fault: Option<ProxyFault>) {
        self.fault.send_replace(fault);
    }

    /// How often faults have hit something so far.
    pub(crate) fn hits(&self) -> u64 {
        self.harm.hits.load(Ordering::Relaxed)
    }
}

type Faults = watch::Receiver<Option<ProxyFault>>;

async fn serve(listener: TcpListener, upstream: String, faults: Faults, harm: Arc<Harm>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (upstream, faults, harm) = (upstream.clone(), faults.clone(), harm.clone());
        tokio::spawn(async move {
            // what fails here is a connection that ends: that is what clients must stand
            let _ = pass(client, &upstream, faults, &harm).await;
        });
    }
}

/// How one direction of a connection came to its end.
enum End {
    Closed,
    Answer(Canned),
}

async fn pass(mut client: TcpStream, upstream: &str, faults: Faults, harm: &Harm) -> std::io::Result<()> {
    let now = *faults.borrow();
    let end = match now {
        Some(ProxyFault::Refuse) => {
            harm.hit();
            return Ok(());
        }
        Some(ProxyFault::Answer(canned)) => End::Answer(canned),
        _ => {
            let mut upstream = TcpStream::connect(upstream).await?;
            upstream.set_nodelay(true)?;
            client.set_nodelay(true)?;
            let (client_reads, client_writes) = client.split();
            let (upstream_reads, upstream_writes) = upstream.split();
            tokio::select! {
                end = pump(client_reads, upstream_writes, true, faults.clone(), harm) => end?,
                end = pump(upstream_reads, client_writes, false, faults.clone(), harm) => end?,
                () = refused(faults) => End::Closed,
            }
        }
    };
    if let End::Answer(canned) = end {
        harm.hit();
        let mut rest = [0; 16 * 1024];
        while let Ok(Ok(1..)) = tokio::time::timeout(REQUEST_IS_OVER, client.read(&mut rest)).await {}
        client.write_all(&canned.bytes()).await?;
        client.shutdown().await?;
    }
    Ok(())
}

/// Until connections are refused.
async fn refused(mut faults: Faults) {
    if faults.wait_for(|fault| *fault == Some(ProxyFault::Refuse)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    is_request: bool,
    mut faults: Faults,
    harm: &Harm,
) -> std::io::Result<End> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return Ok(End::Closed);
        }
        loop {
            let now = *faults.borrow_and_update();
            match now {
                None => break,
                Some(ProxyFault::Refuse) => return Ok(End::Closed),
                Some(ProxyFault::Hang) => {
                    harm.hit();
                    if faults.changed().await.is_err() {
                        return Ok(End::Closed);
                    }
                }
                Some(ProxyFault::CutAfterEffect(_)) if is_request => break,
                Some(ProxyFault::CutAfterEffect(every)) => {
                    let answer = harm.answers.fetch_add(1, Ordering::Relaxed);
                    if answer.is_multiple_of(u64::from(every)) {
                        harm.hit();
                        return Ok(End::Closed);
                    }
                    break;
                }
                Some(ProxyFault::Answer(canned)) if is_request => return Ok(End::Answer(canned)),
                // the request had been passed on before: its answer is nobody's now
                Some(ProxyFault::Answer(_)) => return Ok(End::Closed),
                Some(ProxyFault::Slow(delay)) => {
                    harm.hit();
                    tokio::time::sleep(delay).await;
                    break;
                }
            }
        }
        to.write_all(&piece[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    /// Answers each connection's bytes with themselves, and counts the bytes.
    fn echo() -> (String, Arc<AtomicU64>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(AtomicU64::new(0));
        let count = seen.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, count) = (connection.unwrap(), count.clone());
                std::thread::spawn(move || {
                    let mut bytes = [0; 100];
                    while let Ok(read @ 1..) = connection.read(&mut bytes) {
                        count.fetch_add(read as u64, Ordering::SeqCst);
                        let _ = connection.write_all(&bytes[..read]);
                    }
                });
            }
        });
        (address, seen)
    }

    fn proxy(upstream: &str) -> Proxy {
        Proxy::start(crate::free_port().unwrap(), upstream).unwrap()
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// What comes back for these bytes, until so many came or the connection ends.
    fn ask(stream: &mut TcpStream, bytes: &[u8], most: usize) -> Vec<u8> {
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let mut piece = [0; 1_000];
        while answer.len() < most
            && let Ok(read @ 1..) = stream.read(&mut piece)
        {
            answer.extend(&piece[..read]);
        }
        answer
    }

    #[test]
    fn without_a_fault_bytes_pass_both_ways() {
        let (upstream, _) = echo();
        let proxy = proxy(&upstream);
        let mut stream = connect(&proxy);
        assert_eq!(ask(&mut stream, b"hello", 5), b"hello");
        assert_eq!(ask(&mut stream, b"again", 5), b"again");
        assert_eq!(proxy.hits(), 0);
    }

    #[test]
    fn what_is_cut_after_its_effect_has_reached_the_other_side() {
        let (upstream, seen) = echo();
        let proxy = proxy(&upstream);
        let mut stream = connect(&proxy);
        proxy.set(Some(ProxyFault::CutAfterEffect(1)));
        assert_eq!(ask(&mut stream, b"effect", 6), b"");
        assert_eq!((seen.load(Ordering::SeqCst), proxy.hits()), (6, 1));
        proxy.set(None);
        assert_eq!(ask(&mut connect(&proxy), b"healed", 6), b"healed");
    }

    #[test]
    fn a_canned_answer_comes_without_any_effect() {
        let (upstream, seen) = echo();
        let proxy = proxy(&upstream);
        let mut old = connect(&proxy);
        assert_eq!(ask(&mut old, b"x", 1), b"x");
        proxy.set(Some(ProxyFault::Answer(Canned::SomebodyElse)));
        for stream in [&mut old, &mut connect(&proxy)] {
            let answer = String::from_utf8(ask(stream, b"GET / HTTP/1.1\r\n\r\n", usize::MAX)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("nginx"), "{answer}");
        }
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_hangs_comes_when_the_fault_is_over() {
        let (upstream, seen) = echo();
        let proxy = proxy(&upstream);
        let mut stream = connect(&proxy);
        proxy.set(Some(ProxyFault::Hang));
        stream.write_all(b"late").unwrap();
        while proxy.hits() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(seen.load(Ordering::SeqCst), 0);
        proxy.set(None);
        assert_eq!(ask(&mut stream, b"", 4), b"late");
    }

    #[test]
    fn refused_connections_end_old_ones_too() {
        let (upstream, _) = echo();
        let proxy = proxy(&upstream);
        let mut old = connect(&proxy);
        assert_eq!(ask(&mut old, b"x", 1), b"x");
        proxy.set(Some(ProxyFault::Refuse));
        assert_eq!(ask(&mut old, b"", 1), b"");
        assert_eq!(ask(&mut connect(&proxy), b"x", 1), b"");
    }
}
