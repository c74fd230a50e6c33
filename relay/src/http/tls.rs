//! HTTPS: the certificate, and who connects without.
//!
//! In: files of the user's, or nothing. Out: what a connection is encrypted with, and the fingerprint
//! by which people recognise it. A certificate of our own is made once and kept beside the secret of
//! links, so that a browser which has accepted it does so for good. What this refuses to do: renew
//! it unasked, for that looks like an attack to everybody who has seen the last one.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    http::{HeaderMap, Method, StatusCode, Uri, header::HOST},
    response::{IntoResponse, Redirect, Response},
};
use jiff::{Timestamp, tz::TimeZone};
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, crypto::aws_lc_rs},
};

use super::guard::{Problem, host_name};
use crate::access::store::{Store, StoreError};

/// The file with our own certificate and its key.
pub const FILE: &str = "tls.pem";

/// How long our own certificate lasts, in years. Nothing renews it, and nobody trusts it but for its
/// fingerprint.
const YEARS: i16 = 10;

/// Why there is no HTTPS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        why: io::Error,
    },
    /// Not what it should be.
    #[error("{}: no {what} in PEM form: {why}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// A certificate or its key.
        what: &'static str,
        /// What went wrong.
        why: rustls_pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or are of a kind that is not known.
    #[error("{}: {why}", path.display())]
    Unfit {
        /// Where the certificate is.
        path: PathBuf,
        /// What went wrong.
        why: rustls::Error,
    },
    /// The folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name that no certificate can have, for one.
    #[error("no certificate could be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// What connections are encrypted with.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Tls {
    /// The user's own: a chain of certificates, ours first, and its key, both in PEM form.
    ///
    /// # Errors
    ///
    /// See [`TlsError`].
    pub fn load(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let read =
            |path: &Path| fs::read(path).map_err(|why| TlsError::File { path: path.into(), why });
        Self::of((chain, &read(chain)?), (key, &read(key)?))
    }

    /// One that was made for this relay, with these names and addresses in it beside localhost. It
    /// is kept in `store`, and taken from there ever after.
    ///
    /// # Errors
    ///
    /// See [`TlsError`].
    pub fn own(store: &Store, names: &[String]) -> Result<Self, TlsError> {
        let path = store.path(FILE);
        let pem = match store.secret(FILE)? {
            Some(pem) => pem,
            None => store.keep(FILE, make(names)?.as_bytes())?,
        };
        Self::of((&path, &pem), (&path, &pem))
    }

    fn of(chain: (&Path, &[u8]), key: (&Path, &[u8])) -> Result<Self, TlsError> {
        let wrong = |path: &Path, what| {
            let path = path.to_owned();
            move |why| TlsError::Pem { path, what, why }
        };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain.1)
            .collect::<Result<_, _>>()
            .map_err(wrong(chain.0, "certificate"))?;
        let none = rustls_pki_types::pem::Error::NoItemsFound;
        let ours = certificates.first().ok_or(none).map_err(wrong(chain.0, "certificate"))?;
        let fingerprint = fingerprint(ours);
        let key = PrivateKeyDer::from_pem_slice(key.1).map_err(wrong(key.0, "private key"))?;
        let unfit = |why| TlsError::Unfit { path: chain.0.into(), why };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
    }

    /// SHA-256 of the certificate, as browsers write it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// For connections.
    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(certificate) {
        let colon = if text.is_empty() { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

/// A certificate and its key, in PEM form.
fn make(names: &[String]) -> Result<String, TlsError> {
    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new([&local, names].concat())?;
    // What a browser shows of it.
    params.distinguished_name.push(DnType::CommonName, "Transom");
    let today = Timestamp::now().to_zoned_datetime(TimeZone::UTC).date();
    // A day early, for clocks that are late; the 28th is in every month.
    let (month, day) = (today.month().unsigned_abs(), today.day().clamp(2, 28).unsigned_abs());
    params.not_before = date_time_ymd(today.year().into(), month, day - 1);
    params.not_after = date_time_ymd((today.year() + YEARS).into(), month, day);
    let key = KeyPair::generate()?;
    Ok(params.self_signed(&key)?.pem() + &key.serialize_pem())
}

/// Whether a connection begins as TLS does: with a handshake record (RFC 8446, 5.1).
pub(super) fn is_handshake(first: u8) -> bool {
    first == 22
}

/// The answer to who speaks HTTP where HTTPS is spoken. A query may hold a token, which has been
/// shown to the whole way by now: it is not repeated.
pub(super) fn elsewhere(method: &Method, uri: &Uri, headers: &HeaderMap) -> Response {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match host.filter(|host| host_name(host).is_some()) {
        Some(host) if *method == Method::GET => {
            Redirect::permanent(&format!("https://{host}{}", uri.path())).into_response()
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, "this port speaks HTTPS").into_response(),
    }
}
