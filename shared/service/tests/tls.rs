//! Certificates of brokers are verified: against the configured authority, and for the broker's name.
//!
//! The broker is a TLS listener that does nothing but the handshake: that is what is decided here.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, ProducerContext};
use serde::Deserialize;
use service::{Kafka, Problems, Sources, Validate, load, sections};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
struct Configuration {
    kafka: Kafka,
}

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        problems.within("kafka", &self.kafka);
    }
}

/// A certificate authority that lives as long as its test.
struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

impl Authority {
    fn new() -> Self {
        let key = new_key();
        let certificate = certificate("recwatch test authority", &key, None, None);
        Self { key, certificate }
    }

    /// A key and its certificate for the host `name`.
    fn issue(&self, name: &str) -> (PKey<Private>, X509) {
        let key = new_key();
        let certificate = certificate(name, &key, Some(name), Some(self));
        (key, certificate)
    }
}

fn certificate(name: &str, key: &PKey<Private>, host: Option<&str>, issuer: Option<&Authority>) -> X509 {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(100, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&subject, |issuer| issuer.certificate.subject_name())).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    match host {
        Some(host) => {
            let names = SubjectAlternativeName::new().dns(host).build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        None => {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
            builder.append_extension(KeyUsage::new().critical().key_cert_sign().build().unwrap()).unwrap();
        }
    }
    builder.sign(issuer.map_or(key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
    builder.build()
}

/// What a handshake came to, as one of the two sides saw it.
#[derive(Debug)]
enum Seen {
    /// The listener: the client accepted its certificate.
    Accepted,
    /// The client: it did not connect, and why.
    Refused(String),
}

/// Listens on a free port of this machine and does handshakes, with a certificate for `name`.
fn listen(authority: &Authority, name: &str, seen: Sender<Seen>) -> u16 {
    let (key, certificate) = authority.issue(name);
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    // The client's verdict has to be in before the listener's own handshake ends, which is so up to TLS 1.2.
    acceptor.set_max_proto_version(Some(openssl::ssl::SslVersion::TLS1_2)).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if acceptor.accept(stream.unwrap()).is_ok() && seen.send(Seen::Accepted).is_err() {
                return;
            }
        }
    });
    port
}

struct Observer(Sender<Seen>);

impl ClientContext for Observer {
    fn error(&self, _: KafkaError, reason: &str) {
        // The receiver may be gone already.
        let _ = self.0.send(Seen::Refused(reason.to_owned()));
    }
}

impl ProducerContext for Observer {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
}

/// A client of the broker at `host:port` that trusts the certificates in `ca`, configured as a worker is.
fn first_seen(host: &str, port: u16, ca: &Path, seen: Sender<Seen>, news: &Receiver<Seen>) -> Seen {
    let sets = [
        format!("kafka.brokers={host}:{port}"),
        "kafka.security_protocol=ssl".to_owned(),
        format!("kafka.ssl_ca_location={}", ca.display()),
        // The name may resolve to IPv6, too, where nobody listens.
        "kafka.properties.broker.address.family=v4".to_owned(),
    ];
    let sources = Sources { sets: &sets, ..Sources::of_defaults(sections::KAFKA) };
    let configuration: Configuration = load(sources).unwrap_or_else(|problems| panic!("{problems}")).settings;
    let producer: BaseProducer<Observer> =
        configuration.kafka.client_config().create_with_context(Observer(seen)).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        producer.poll(Duration::from_millis(10));
        match news.try_recv() {
            // What librdkafka says after the cause.
            Ok(Seen::Refused(reason)) if reason.contains("brokers are down") => {}
            Ok(seen) => return seen,
            Err(_) => assert!(Instant::now() < end, "neither side says anything"),
        }
    }
}

/// The first thing seen where the broker's certificate is for `name`, and the client connects to `host`.
fn handshake(name: &str, host: &str, is_trusted: bool) -> Seen {
    let (broker, stranger) = (Authority::new(), Authority::new());
    let trusted = if is_trusted { &broker } else { &stranger };
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), trusted.certificate.to_pem().unwrap()).unwrap();
    let (seen, news) = channel();
    let port = listen(&broker, name, seen.clone());
    first_seen(host, port, ca.path(), seen, &news)
}

#[test]
fn a_broker_whose_certificate_is_trusted_and_for_its_name_is_connected_to() {
    let seen = handshake("localhost", "localhost", true);
    assert!(matches!(seen, Seen::Accepted), "{seen:?}");
}

#[test]
fn a_broker_whose_certificate_comes_from_a_stranger_is_refused() {
    let seen = handshake("localhost", "localhost", false);
    assert!(matches!(&seen, Seen::Refused(reason) if reason.contains("certificate verify failed")), "{seen:?}");
}

#[test]
fn a_broker_whose_certificate_is_for_another_name_is_refused() {
    let seen = handshake("broker.example", "localhost", true);
    assert!(matches!(&seen, Seen::Refused(reason) if reason.contains("certificate verify failed")), "{seen:?}");
}
