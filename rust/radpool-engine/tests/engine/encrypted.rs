//! Devices that come over TLS, and those that only seem to.
//!
//! The certificates are self-signed for a hundred years, by `openssl req -x509 -newkey ec -pkeyopt
//! ec_paramgen_curve:P-256 -nodes -days 36500`.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use radpool_engine::{
    TlsCertificate, TlsIdentity, TlsIdentityError, TranslatorEvent, TranslatorSettings,
};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};

use crate::{
    harness::{PATIENCE, Pool, settings},
    translate::{Device, Rig, translating},
};

const FIRST: (&str, &str) =
    (include_str!("certificate/first.pem"), include_str!("certificate/first.key"));
const SECOND: (&str, &str) =
    (include_str!("certificate/second.pem"), include_str!("certificate/second.key"));

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

fn identity((certificate, key): (&str, &str)) -> TlsIdentity {
    let certificate = TlsCertificate::from_pem(certificate.as_bytes()).unwrap();
    TlsIdentity::new(&certificate, key.as_bytes()).unwrap()
}

/// Shakes hands as a device that trusts only this certificate.
fn shake_hands<S: Read + Write>(
    mut socket: S,
    trusted: &str,
    version: &'static SupportedProtocolVersion,
) -> io::Result<StreamOwned<ClientConnection, S>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("translator.test").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends each byte by itself.
struct Crumbs(TcpStream);

impl Read for Crumbs {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = bytes.len().min(1);
        self.0.read(&mut bytes[..length])
    }
}

impl Write for Crumbs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn device(address: SocketAddr, trusted: &str) -> Device<Encrypted> {
    Device::over(shake_hands(connect(address), trusted, &TLS13).unwrap())
}

#[track_caller]
fn pong(device: &mut Device<impl Read + Write>) {
    device.say(r#"{"id":1,"method":"mining.ping"}"#);
    assert!(device.hear().contains("pong"));
}

/// Says the first words of a handshake, and nothing more.
fn begin(address: SocketAddr) -> TcpStream {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("translator.test").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = connect(address);
    session.write_tls(&mut socket).unwrap();
    socket
}

/// Reads until the other side has closed, by whatever means.
fn read_out(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = socket.read_to_end(&mut rest);
    let kind = ended.err().map(|error| error.kind());
    assert!(kind.is_none_or(|kind| kind == io::ErrorKind::ConnectionReset), "{kind:?}");
}

impl Rig {
    fn encrypted(settings: TranslatorSettings) -> (Self, SocketAddr) {
        let rig = Self::start(settings);
        let address = rig.translator.listen_tls("127.0.0.1", 0, &identity(FIRST)).unwrap();
        (rig, address)
    }

    #[track_caller]
    fn until_metric(&mut self, name: &str, value: u128) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(name) != value {
            assert!(Instant::now() < deadline, "{name}: {:?}", self.translator.metrics());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn devices_mine_over_both_versions_as_they_do_without() {
    let mut pool = Pool::start(settings());
    let (mut rig, address) = Rig::encrypted(translating());
    rig.mine_for(&mut pool, false);
    let mut shares = 0;
    for version in [&TLS12, &TLS13] {
        let encrypted = shake_hands(connect(address), FIRST.0, version).unwrap();
        let mut device = Device::over(encrypted);
        device.greet("a");
        pool.until(|_| rig.metric("upstream_channels") == 2);
        device.hear_until(",true]}");
        for id in 10..15 {
            device.submit("a", id + shares);
            assert!(device.hear_until(&format!("\"id\":{},", id + shares)).contains("true"));
        }
        shares += 5;
        pool.until(|pool| pool.shares.len() as u32 == shares);
        let encrypted = device.reader.get_mut();
        encrypted.conn.send_close_notify();
        encrypted.flush().unwrap();
        rig.until_metric("closed_peer_closed_total", u128::from(shares / 5));
    }
    assert_eq!(rig.metric("tls_handshakes_total"), 2);
}

#[test]
fn bytes_may_come_one_by_one() {
    let (_rig, address) = Rig::encrypted(translating());
    for version in [&TLS12, &TLS13] {
        let socket = connect(address);
        socket.set_nodelay(true).unwrap();
        let mut device = Device::over(shake_hands(Crumbs(socket), FIRST.0, version).unwrap());
        pong(&mut device);
        pong(&mut device);
    }
}

#[test]
fn a_device_that_does_not_read_is_closed() {
    let mut strict = translating();
    (strict.write_deadline_ms, strict.device.requests_per_second) = (300, 1_000_000);
    strict.device.requests_burst = 1_000_000;
    let (mut rig, address) = Rig::encrypted(strict);
    let mut honest = device(address, FIRST.0);
    let mut deaf = device(address, FIRST.0);
    let deadline = Instant::now() + PATIENCE;
    let lines = "{\"id\":1,\"method\":\"mining.ping\"}\n".repeat(1_000);
    deaf.reader.get_mut().sock.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    while rig.metric("closed_slow_reader_total") == 0 {
        // It may not take them any more, or be closed by now.
        let _ = deaf.reader.get_mut().write_all(lines.as_bytes());
        assert!(Instant::now() < deadline, "{:?}", rig.translator.metrics());
    }
    pong(&mut honest);
    rig.until_metric("devices", 1);
}

#[test]
fn a_goodbye_reaches_devices_before_the_end() {
    let mut pool = Pool::start(settings());
    let (mut rig, address) = Rig::encrypted(translating());
    rig.mine_for(&mut pool, false);
    let mut device = device(address, FIRST.0);
    device.greet("a");
    pool.until(|_| rig.metric("upstream_channels") == 2);
    device.hear_until(",true]}");
    rig.translator.stop(PATIENCE);
    device.hear_until("client.reconnect");
    assert_eq!(device.hear(), "", "an end in order: a cut would be an error");
    assert!(rig.translator.listen_tls("127.0.0.1", 0, &identity(FIRST)).is_err());
}

#[test]
fn whoever_shakes_no_hands_is_closed_and_counted_and_nobody_else() {
    let (mut rig, address) = Rig::encrypted(translating());
    let mut honest = device(address, FIRST.0);
    pong(&mut honest);

    let mut plain = connect(address);
    plain.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").unwrap();
    read_out(&mut plain);
    rig.until_metric("tls_failed_plain_total", 1);
    rig.until(|events| {
        events.iter().any(|event| matches!(event, TranslatorEvent::TlsFailed { reason, .. } if reason.contains("stratum+ssl")))
    });

    drop(TcpStream::connect(address).unwrap());
    rig.until_metric("tls_failed_closed_total", 1);

    let mut garbage = connect(address);
    garbage.write_all(&[22, 9, 9, 255, 255, 1, 2, 3]).unwrap();
    read_out(&mut garbage);
    rig.until_metric("tls_failed_protocol_total", 1);

    assert!(
        shake_hands(connect(address), SECOND.0, &TLS13).is_err(),
        "it trusts another certificate"
    );
    rig.until_metric("tls_failed_refused_total", 1);

    rig.until_metric("tls_handshaking", 0);
    rig.until_metric("sockets", 1);
    pong(&mut honest);
}

#[test]
fn handshakes_that_are_not_finished_in_time_end() {
    let mut hasty = translating();
    hasty.tls_handshake_deadline_ms = 300;
    let (mut rig, address) = Rig::encrypted(hasty);
    let mut plain = Device::connect(rig.address);
    let silent = TcpStream::connect(address).unwrap();
    let mut dripping = TcpStream::connect(address).unwrap();
    dripping.write_all(&[22, 3, 1]).unwrap();
    let half = begin(address);
    for mut socket in [silent, dripping, half] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        read_out(&mut socket);
    }
    rig.until_metric("tls_failed_timeout_total", 3);
    rig.until_metric("tls_handshaking", 0);
    pong(&mut plain);
}

#[test]
fn handshakes_at_once_are_bounded_for_each_address_and_in_all() {
    for (in_all, of_address) in [(100, 2), (2, 100)] {
        let mut narrow = translating();
        (narrow.tls_handshakes_max, narrow.tls_handshakes_per_address_max) = (in_all, of_address);
        narrow.tls_handshake_deadline_ms = 3_600_000;
        let (mut rig, address) = Rig::encrypted(narrow);
        let mut begun: Vec<TcpStream> = (0..2).map(|_| begin(address)).collect();
        rig.until_metric("tls_handshaking", 2);
        let waiting = std::thread::spawn(move || pong(&mut device(address, FIRST.0)));
        rig.until_metric("sockets", 3);
        // Another loopback address is another peer.
        if in_all > of_address {
            let elsewhere = socket2::Socket::new(
                socket2::Domain::IPV4,
                socket2::Type::STREAM,
                Some(socket2::Protocol::TCP),
            )
            .unwrap();
            elsewhere.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            elsewhere.connect(&address.into()).unwrap();
            let mut elsewhere = TcpStream::from(elsewhere);
            elsewhere.write_all(&[22]).unwrap();
            rig.until_metric("tls_handshaking", 3);
            drop(elsewhere);
            rig.until_metric("tls_failed_closed_total", 1);
        }
        assert_eq!((rig.metric("tls_handshaking"), rig.metric("tls_handshakes_total")), (2, 0));
        drop(begun.pop());
        waiting.join().unwrap();
        drop(begun);
        rig.until_metric("sockets", 0);
        rig.until_metric("tls_handshaking", 0);
    }
}

#[test]
fn waiting_for_ones_turn_has_an_end() {
    let mut narrow = translating();
    (narrow.tls_handshakes_per_address_max, narrow.tls_handshake_deadline_ms) = (1, 300);
    let (mut rig, address) = Rig::encrypted(narrow);
    let _begun: Vec<TcpStream> = (0..6).map(|_| begin(address)).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (timeout, crowd) =
            (rig.metric("tls_failed_timeout_total"), rig.metric("tls_failed_crowd_total"));
        if timeout >= 1 && crowd >= 1 && timeout + crowd == 6 {
            break;
        }
        assert!(Instant::now() < deadline, "{timeout} {crowd}");
        std::thread::sleep(Duration::from_millis(1));
    }
    rig.until(|events| {
        events.iter().any(|event| matches!(event, TranslatorEvent::TlsFailed { .. }))
    });
}

#[test]
fn another_certificate_is_shown_to_whoever_comes_next() {
    let (mut rig, address) = Rig::encrypted(translating());
    let mut before = device(address, FIRST.0);
    pong(&mut before);
    rig.translator.set_tls_identity(&identity(SECOND));
    pong(&mut device(address, SECOND.0));
    assert!(shake_hands(connect(address), FIRST.0, &TLS13).is_err());
    pong(&mut before);
    rig.until_metric("tls_handshakes_total", 2);
}

#[test]
fn certificates_and_keys_are_told_apart() {
    let certificate = TlsCertificate::from_pem(FIRST.0.as_bytes()).unwrap();
    assert_eq!(certificate.names(), ["translator.test"]);
    assert_eq!(certificate.validity_unix_s(), (1_795_286_802, 4_948_886_802));
    assert!(hex::encode(certificate.sha256()).starts_with("67d12399ed23be37"));
    let identity = |key: &str| TlsIdentity::new(&certificate, key.as_bytes()).map(|_| ());
    assert_eq!(identity(FIRST.1), Ok(()));
    assert_eq!(identity(SECOND.1), Err(TlsIdentityError::OtherKey));
    assert_eq!(identity(FIRST.0), Err(TlsIdentityError::NoKey));
    let locked = include_str!("certificate/locked.key");
    assert_eq!(identity(locked), Err(TlsIdentityError::LockedKey));
    let read = |text: &str| TlsCertificate::from_pem(text.as_bytes()).map(|_| ());
    for text in ["", "text", FIRST.1] {
        assert_eq!(read(text), Err(TlsIdentityError::NoCertificate));
    }
    assert_eq!(read(&FIRST.0.repeat(10)), Ok(()));
    assert_eq!(read(&FIRST.0.repeat(11)), Err(TlsIdentityError::LongChain));
    // Every place at which a file may have been cut.
    for end in 1..FIRST.0.trim_end().len() {
        assert!(read(&FIRST.0[..end]).is_err(), "cut at {end}");
    }
    for end in 1..FIRST.1.trim_end().len() {
        assert!(identity(&FIRST.1[..end]).is_err(), "cut at {end}");
    }
}
