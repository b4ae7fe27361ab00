//! `kind = "tls"`: performs a handshake and checks the certificate. Also TLS beneath the other
//! kinds.
//!
//! The handshake accepts any certificate; it is verified afterwards, before a byte of ours is sent,
//! so that the expiry of a bad certificate is reported as well. Sessions are never resumed, since a
//! server presents no certificate then. Files are read again each time: they may be replaced. Not
//! here: MySQL, whose crate has its own handshake.

use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringlane_core::machine::Address;
use ringlane_health::Seen;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{self, CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::destination::Destination;
use super::shortage::is_shortage;
use super::{Connection, Outcome, read_file};
use crate::config::{Tls, Trust};
use crate::control::servers::blocking::Blocking;

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// The one provider of the workspace.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(crypto::aws_lc_rs::default_provider()));

/// The system's root certificates, read at the first use.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

/// The one reading of it.
static READING: LazyLock<Blocking<(), Roots>> = LazyLock::new(Blocking::new);

/// The certificates, or why they can't be read.
type Roots = Result<Arc<RootCertStore>, Arc<io::Error>>;

pub(super) async fn check(tls: &Tls, min_days: Option<u32>, destination: &Destination) -> Outcome {
    let mut outcome = Outcome::from(Ok(Seen::default()));
    outcome.seen = look(tls, min_days, destination, &mut outcome.certificate_days).await;
    outcome
}

async fn look(
    tls: &Tls,
    min_days: Option<u32>,
    destination: &Destination,
    days: &mut Option<i64>,
) -> Result<Seen, String> {
    let mut secured = handshake(destination.connect().await?, tls, destination).await?;
    *days = secured.days_left();
    secured.verify().await?;
    let (_, session) = secured.stream.get_ref();
    let version = match session.protocol_version().map(|version| version.as_str()) {
        Some(Some("TLSv1_3")) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    let protocol = session.alpn_protocol().map(String::from_utf8_lossy);
    let protocol = protocol.map(|name| format!(", {name}")).unwrap_or_default();
    if !tls.alpn.is_empty() && protocol.is_empty() {
        return Err(format!("server supports none of {} (ALPN)", tls.alpn.join(", ")));
    }
    let detail = match (*days, min_days) {
        (Some(left), Some(min)) if left < min.into() => {
            return Err(format!("certificate expires in {left} days (minimum {min})"));
        }
        (Some(left), _) => format!("{version}{protocol}, certificate expires in {left} days"),
        (None, _) => return Err("cannot parse the server's certificate".to_owned()),
    };
    // A farewell; whether it arrives is of no interest.
    let _ = secured.stream.shutdown().await;
    Ok(Seen { detail: Some(detail), ..Seen::default() })
}

/// Puts TLS over a connection to a server; `days` becomes those that its certificate has left.
pub(super) async fn secure(
    connection: Box<dyn Connection>,
    tls: &Tls,
    destination: &Destination,
    days: &mut Option<i64>,
) -> Result<Box<dyn Connection>, String> {
    let secured = handshake(connection, tls, destination).await?;
    *days = secured.days_left();
    secured.verify().await?;
    Ok(Box::new(secured.stream))
}

/// A connection after the handshake, its certificate not verified yet.
struct Secured<'a> {
    stream: TlsStream<Box<dyn Connection>>,
    tls: &'a Tls,
    destination: &'a Destination,
    name: ServerName<'static>,
}

async fn handshake<'a>(
    connection: Box<dyn Connection>,
    tls: &'a Tls,
    destination: &'a Destination,
) -> Result<Secured<'a>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_safe_default_protocol_versions().map_err(|why| why.to_string())?;
    let takes_any = Arc::new(TakesAny(Arc::clone(&PROVIDER)));
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(takes_any).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = tls.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    let name = tls.server_name.clone().unwrap_or_else(|| match &destination.address {
        Address::Inet(inet) => ServerName::from(inet.ip()),
        Address::Unix(_) => ServerName::from(std::net::IpAddr::from([127, 0, 0, 1])),
    });
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name.clone(), connection).await.map_err(|error| {
        format!("TLS handshake with {destination} failed: {}", destination.text(&error))
    })?;
    Ok(Secured { stream, tls, destination, name })
}

impl Secured<'_> {
    fn chain(&self) -> &[CertificateDer<'static>] {
        self.stream.get_ref().1.peer_certificates().unwrap_or_default()
    }

    /// Whole days that the certificate has left; negative once it has expired.
    fn days_left(&self) -> Option<i64> {
        let (_, certificate) = X509Certificate::from_der(self.chain().first()?).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let left = certificate.validity().not_after.timestamp() - i64::try_from(now).ok()?;
        Some(left.div_euclid(DAY))
    }

    /// Whether the certificate is as good as the configuration wants it; otherwise a phrase.
    async fn verify(&self) -> Result<(), String> {
        if self.tls.trust == Trust::Anybody {
            return Ok(());
        }
        let roots = match &self.tls.ca {
            Some(path) => read(path, self.destination).await?,
            None => system(self.destination).await?,
        };
        if roots.is_empty() {
            return Err("no trusted root certificates found on this system; set `ca`".to_owned());
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER)).build();
        let verifier = verifier.map_err(|error| error.to_string())?;
        let Some((first, rest)) = self.chain().split_first() else {
            return Err("server presented no certificate".to_owned());
        };
        match verifier.verify_server_cert(first, rest, &self.name, &[], UnixTime::now()) {
            // The name is verified last: everything else is in order.
            Err(Error::InvalidCertificate(why))
                if is_about_name(&why) && self.tls.trust == Trust::Signer =>
            {
                Ok(())
            }
            Err(Error::InvalidCertificate(why)) => Err(self.phrase(&why)),
            Err(error) => Err(error.to_string()),
            Ok(_) => Ok(()),
        }
    }

    fn phrase(&self, why: &CertificateError) -> String {
        match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                let days = -self.days_left().unwrap_or(-1);
                format!("certificate expired at most {days} days ago")
            }
            CertificateError::NotValidForName => {
                format!("certificate is not valid for {}", self.name.to_str())
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                let presented: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
                let (name, names) = (self.name.to_str(), presented.join(", "));
                let only =
                    if names.is_empty() { String::new() } else { format!(", only for {names}") };
                format!("certificate is not valid for {name}{only}")
            }
            // The second: signed by another issuer of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "certificate signed by an unknown issuer".to_owned()
            }
            other => format!("invalid certificate: {other}"),
        }
    }
}

/// A name as the certificate has it, out of the library's `DnsName("…")`.
fn bare(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}

fn is_about_name(why: &CertificateError) -> bool {
    matches!(
        why,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    )
}

/// The system's root certificates.
async fn system(destination: &Destination) -> Result<Arc<RootCertStore>, String> {
    if let Some(roots) = SYSTEM.get() {
        return Ok(Arc::clone(roots));
    }
    let read = || {
        let mut roots = RootCertStore::empty();
        let loaded = rustls_native_certs::load_native_certs();
        // Not kept for ever, where only this machine lacked something.
        if let Some(error) = loaded.errors.into_iter().find(|error| is_shortage(error)) {
            return Err(Arc::new(io::Error::other(error)));
        }
        // What can't be read or used is missing there: a certificate that needs it is refused.
        roots.add_parsable_certificates(loaded.certs);
        Ok(Arc::new(roots))
    };
    let roots = READING.run((), read).await.map_err(Arc::new).flatten();
    let roots = roots.map_err(|error| {
        format!("cannot read the system's root certificates: {}", destination.text(&error))
    })?;
    Ok(Arc::clone(SYSTEM.get_or_init(|| roots)))
}

/// The certificates of a file in PEM.
async fn read(path: &Path, destination: &Destination) -> Result<Arc<RootCertStore>, String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!("cannot read certificates in {}: {why}", path.display())
    };
    let bytes = read_file(path, destination).await.map_err(|why| failed(&why))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|why| failed(&why))?;
        roots.add(certificate).map_err(|why| failed(&why))?;
    }
    if roots.is_empty() { Err(failed(&"none found")) } else { Ok(Arc::new(roots)) }
}

/// Accepts every certificate whose holder has its private key.
#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
