//! The certificate of ClickHouse is verified: against the configured authority, and for the server's name.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use clickhouse_writer::config::{Configuration, defaults};
use clickhouse_writer::server::Server;
use clickhouse_writer::verdict::InsertError;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use service::{Sources, load};

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A certificate for `host`, or, without one, of an authority; signed by `issuer`, or by itself.
fn certificate(serial: u32, key: &PKey<Private>, host: Option<&str>, issuer: Option<&(PKey<Private>, X509)>) -> X509 {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, host.unwrap_or("recwatch test authority")).unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(issuer.map_or(&name, |(_, issuer)| issuer.subject_name())).unwrap();
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
    builder.sign(issuer.map_or(key, |(key, _)| key), MessageDigest::sha256()).unwrap();
    builder.build()
}

fn authority() -> (PKey<Private>, X509) {
    let key = new_key();
    let certificate = certificate(1, &key, None, None);
    (key, certificate)
}

/// Asks a server whose certificate is for `name`, as `localhost`, trusting its authority or another one.
fn ask(name: &str, is_trusted: bool) -> Result<(), InsertError> {
    let (issuer, stranger) = (authority(), authority());
    let key = new_key();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate(2, &key, Some(name), Some(&issuer))).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if let Ok(mut stream) = acceptor.accept(stream.unwrap()) {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let trusted = if is_trusted { &issuer } else { &stranger };
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), trusted.1.to_pem().unwrap()).unwrap();
    let defaults = defaults();
    let sets =
        [format!("clickhouse.url=https://localhost:{port}"), format!("clickhouse.ca_location={}", ca.path().display())];
    let settings = load::<Configuration>(Sources { sets: &sets, ..Sources::of_defaults(&defaults) }).unwrap().settings;
    let server = Server::new(&settings.clickhouse).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.execute("SELECT 1"))
}

#[test]
fn a_server_whose_certificate_is_trusted_and_for_its_name_is_asked() {
    assert_eq!(ask("localhost", true), Ok(()));
}

#[test]
fn a_server_whose_certificate_comes_from_a_stranger_is_refused() {
    let error = ask("localhost", false).unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
}

#[test]
fn a_server_whose_certificate_is_for_another_name_is_refused() {
    let error = ask("clickhouse.example", true).unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
}
