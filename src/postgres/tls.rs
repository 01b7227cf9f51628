//! Encryption of connections: what the URL asks for, by rustls. It knows no addresses.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What the URL asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    mode: Mode,
    root: Option<PathBuf>,
}

/// `sslmode`, as libpq knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// Not encrypted.
    #[default]
    Disable,
    /// Encrypted; whoever answers is believed.
    Require,
    /// The certificate must be signed by somebody known.
    VerifyCa,
    /// And it must name the host.
    VerifyFull,
}

/// How connections are encrypted.
pub(super) struct Tls {
    connect: MakeRustlsConnect,
    /// Who is believed, for people.
    trust: &'static str,
}

impl Tls {
    /// `None`: connections are not encrypted.
    pub(super) fn new(wish: &Wish) -> Result<Option<Tls>, String> {
        let provider = Arc::new(ring::default_provider());
        let named = match wish.mode {
            Mode::Require if wish.root.is_none() => "whoever answers is believed",
            Mode::Disable | Mode::Require | Mode::VerifyCa => "the certificate is verified, its name is not",
            Mode::VerifyFull => "the certificate and its name are verified",
        };
        let trust = match wish.mode {
            Mode::Disable if wish.root.is_some() => {
                return Err(
                    "sslrootcert: expected sslmode=require, verify-ca or verify-full beside it".to_owned()
                );
            }
            Mode::Disable => return Ok(None),
            Mode::Require if wish.root.is_none() => Trust::Anybody,
            // With a root certificate `require` verifies as `verify-ca` does, as in libpq.
            Mode::Require | Mode::VerifyCa => Trust::AnyName(verifier(wish, &provider)?),
            Mode::VerifyFull => Trust::Host(verifier(wish, &provider)?),
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("sslmode: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }))
            .with_no_client_auth();
        Ok(Some(Tls { connect: MakeRustlsConnect::new(config), trust: named }))
    }

    pub(super) fn connector(&self) -> MakeRustlsConnect {
        self.connect.clone()
    }

    /// Who is believed, for people.
    pub(super) fn trust(&self) -> &'static str {
        self.trust
    }
}

/// Verifies against the certificates of the system, or of the file that `wish` names.
fn verifier(wish: &Wish, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    match &wish.root {
        Some(path) => {
            let named = |error: &dyn std::fmt::Display| format!("sslrootcert={}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| named(&error))? {
                let added = certificate.map(|certificate| roots.add(certificate));
                added.map_err(|error| named(&error))?.map_err(|error| named(&error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err("sslmode: expected root certificates, in the system or in sslrootcert=FILE".to_owned());
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| format!("sslmode: {error}"))
}

/// Whose certificate is believed.
#[derive(Debug)]
enum Trust {
    /// Whoever answers: the connection is only encrypted.
    Anybody,
    /// Whoever is vouched for.
    AnyName(Arc<WebPkiServerVerifier>),
    /// The host, and it is vouched for.
    Host(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (Trust::AnyName(verifier) | Trust::Host(verifier)) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        match (&self.trust, verifier.verify_server_cert(certificate, intermediates, name, ocsp, now)) {
            // The name is looked at last: all else was right.
            (
                Trust::AnyName(_),
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )),
            ) => Ok(ServerCertVerified::assertion()),
            (_, verified) => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes `sslmode` and `sslrootcert` out of a URL or of key=value pairs: tokio-postgres knows fewer of them.
pub(super) fn split(url: &str) -> Result<(String, Wish), String> {
    let mut wish = Wish::default();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        let mut plain = String::new();
        for pair in pairs(url) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !wish.takes(key.trim(), &unquoted(value.trim()))? {
                plain.push_str(pair);
                plain.push(' ');
            }
        }
        return Ok((plain.trim_end().to_owned(), wish));
    }
    let Some((start, query)) = url.split_once('?') else { return Ok((url.to_owned(), wish)) };
    let mut rest = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_decoded(value);
        if !wish.takes(key, decoded.as_deref().unwrap_or(value))? {
            rest.push(pair);
        }
    }
    let separator = if rest.is_empty() { "" } else { "?" };
    Ok((format!("{start}{separator}{}", rest.join("&")), wish))
}

impl Wish {
    /// Whether the pair is one of those that are looked at here.
    fn takes(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "sslmode" => {
                self.mode = match value {
                    "disable" => Mode::Disable,
                    "require" => Mode::Require,
                    "verify-ca" => Mode::VerifyCa,
                    "verify-full" => Mode::VerifyFull,
                    _ => {
                        return Err(format!(
                            "expected sslmode=disable, require, verify-ca or verify-full, got {value:?}"
                        ));
                    }
                }
            }
            // The system's are meant where no file is named.
            "sslrootcert" => self.root = (value != "system").then(|| PathBuf::from(value)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The pairs of a string such as `host = a password='b c'`, each as it stands there.
fn pairs(text: &str) -> Vec<&str> {
    let mut pairs = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && bytes[at] != b'=' {
            at += 1;
        }
        at = (at + 1).min(bytes.len());
        while at < bytes.len() && bytes[at].is_ascii_whitespace() {
            at += 1;
        }
        let quoted = at < bytes.len() && bytes[at] == b'\'';
        at += usize::from(quoted);
        while at < bytes.len() {
            match bytes[at] {
                b'\\' => at += 1,
                b'\'' if quoted => {
                    at += 1;
                    break;
                }
                byte if !quoted && byte.is_ascii_whitespace() => break,
                _ => {}
            }
            at += 1;
        }
        at = at.min(bytes.len());
        pairs.push(&text[start..at]);
    }
    pairs
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

fn percent_decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tokio_postgres_does_not_know_is_taken_out() {
        for (url, plain, mode, root) in [
            ("postgres://u@a/d", "postgres://u@a/d", Mode::Disable, None),
            ("postgres://u@a/d?sslmode=require", "postgres://u@a/d", Mode::Require, None),
            (
                "postgresql://a/d?user=b&sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20b&port=1",
                "postgresql://a/d?user=b&port=1",
                Mode::VerifyFull,
                Some("/etc/a b"),
            ),
            ("host=a sslmode=verify-ca user = b", "host=a user = b", Mode::VerifyCa, None),
            (
                r"host=a sslrootcert='/etc/it\'s here' password='sslmode=require x' sslmode = 'require'",
                "host=a password='sslmode=require x'",
                Mode::Require,
                Some("/etc/it's here"),
            ),
            ("", "", Mode::Disable, None),
        ] {
            let wish = Wish { mode, root: root.map(PathBuf::from) };
            assert_eq!(split(url), Ok((plain.to_owned(), wish)), "{url}");
        }
    }

    /// Cut anywhere, it is refused or read, and never panics.
    #[test]
    fn pairs_of_any_text() {
        let text = r"host = a password='b \' c' x=\ y='é";
        for (cut, _) in text.char_indices() {
            for pair in pairs(&text[..cut]) {
                let _ = unquoted(pair);
            }
        }
        assert_eq!(pairs("a=1 b = '2 3'c=4"), ["a=1", "b = '2 3'", "c=4"]);
    }
}
