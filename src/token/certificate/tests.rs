//! Files as administrators make them, good and bad.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
};

use super::*;
use crate::token::{
    assertion::Statement,
    test_pair::{Pair as TestPair, pem},
};

struct Bench {
    directory: tempfile::TempDir,
    files: CertificateFiles,
}

impl Bench {
    fn new(certificate: &str, key: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("certificate.pem"), certificate).unwrap();
        let private_key = key.map(|key| {
            std::fs::write(path("key.pem"), key).unwrap();
            path("key.pem")
        });
        let files = CertificateFiles {
            certificate: path("certificate.pem"),
            private_key,
            algorithm: Algorithm::Ps256,
        };
        Self { directory, files }
    }

    fn fault(&self) -> (FileKind, FileFault) {
        match self.files.examine().unwrap_err() {
            TokenError::File { kind, reason, path } => {
                assert!(path.starts_with(self.directory.path()));
                (kind, reason)
            }
            other => panic!("{other}"),
        }
    }
}

fn fault(certificate: &str, key: &str) -> FileFault {
    Bench::new(certificate, Some(key)).fault().1
}

#[test]
fn both_forms_of_a_key_and_one_file_for_both_are_taken() {
    let (pair, other) = (TestPair::new(), TestPair::new());
    let end = UnixMillis(1_803_859_200_000); // 2027-03-01T00:00:00Z
    let good = |certificate: &str, key: Option<&str>| {
        assert_eq!(Bench::new(certificate, key).files.examine().unwrap().at, end);
    };
    good(&pair.certificate, Some(&pair.key));
    good(&pair.certificate, Some(&pair.key_pkcs1));
    good(&pair.both(), None);
    good(&format!("{}{}", pair.certificate, pair.key_pkcs1), None);
    // A chain in any order, with text around it, as tools write it.
    let chain = format!("subject: /CN=x\r\n{}{}", other.certificate, pair.certificate);
    good(&chain.replace('\n', "\r\n"), Some(&pair.key));
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    let pair = TestPair::new();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFNTBfBgkqhkiG9w0BBQ0wUjAxBgkq\n\
                     -----END ENCRYPTED PRIVATE KEY-----\n";
    let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                         DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert_eq!(fault(&pair.certificate, encrypted), FileFault::Encrypted);
    assert_eq!(fault(&pair.certificate, old_encrypted), FileFault::Encrypted);

    let random = ring::rand::SystemRandom::new();
    let curve = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    assert_eq!(fault(&pair.certificate, &pem("PRIVATE KEY", curve.as_ref())), FileFault::NotRsa);
    assert_eq!(fault(&pair.certificate, &pem("EC PRIVATE KEY", &[48, 0])), FileFault::NotRsa);
    assert_eq!(
        fault(&pair.certificate, &pem("RSA PRIVATE KEY", &STANDARD.decode(SMALL_KEY).unwrap())),
        FileFault::KeySize("is shorter than 2048 bits")
    );

    assert_eq!(fault(&pair.certificate, &pair.certificate), FileFault::NoKey);
    assert_eq!(fault(&pair.key, &pair.key), FileFault::NoCertificate);
    assert_eq!(fault("", &pair.key), FileFault::Read(SecretFault::Empty));
    let cut = &pair.key[..pair.key.len() / 2];
    assert_eq!(fault(&pair.certificate, cut), FileFault::BadKey("its END line is missing".into()));
    assert!(matches!(
        fault(&pem("CERTIFICATE", &[48, 3, 2, 1, 1]), &pair.key),
        FileFault::BadCertificate(_)
    ));

    let bench = Bench::new(&pair.certificate, Some(&TestPair::new().key));
    let key = bench.directory.path().join("key.pem");
    assert_eq!(bench.fault(), (FileKind::Certificate, FileFault::Mismatch { key: key.clone() }));
    std::fs::remove_file(&key).unwrap();
    let (kind, fault) = bench.fault();
    assert_eq!(kind, FileKind::PrivateKey);
    assert!(fault.to_string().contains("No such file"), "{fault}");
}

#[test]
fn advice_says_how_to_get_a_usable_key_and_shows_none() {
    let pair = TestPair::new();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIFNTBf\n";
    let bench = Bench::new(&pair.certificate, Some(encrypted));
    let error = bench.files.examine().unwrap_err();
    let ids = crate::office365::entra::Ids { tenant: "t", client_id: "c", app: None };
    let advice = error.advice(&ids);
    assert!(advice.contains("openssl pkey -in ") && advice.contains("openssl req -x509"));
    assert_eq!(error.stage(), crate::token::Stage::Credential);
    assert!(!format!("{error} {error:?} {advice}").contains("MIIF"));

    std::fs::write(&bench.files.certificate, b"\x30\x82\xff").unwrap();
    let pfx = bench.files.examine().unwrap_err();
    assert!(pfx.to_string().ends_with("is not UTF-8 text"), "{pfx}");
    assert!(pfx.advice(&ids).contains("openssl pkcs12 -in "));
}

/// The statement as its receiver reads it: header, claims, and whether the key has signed it.
fn received(algorithm: Algorithm) -> (serde_json::Value, serde_json::Value, bool) {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use secrecy::ExposeSecret;

    let pair = TestPair::new();
    let read = Bench::new(&pair.both(), None).files.read().unwrap();
    let statement = Statement {
        client_id: "58d8",
        audience: "https://login.example/t/oauth2/v2.0/token",
        now: UnixMillis(1_795_415_050_123),
        id: "id-1".into(),
    };
    let signed = statement.sign(&read, algorithm).unwrap();
    let (head, signature) = signed.expose_secret().rsplit_once('.').unwrap();
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    let verifier: &'static dyn ring::signature::VerificationAlgorithm = match algorithm {
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
    };
    let key = UnparsedPublicKey::new(verifier, read.key.public().as_ref());
    let good = key.verify(head.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).is_ok();
    (json(header), json(claims), good)
}

#[test]
fn a_statement_says_who_to_whom_and_for_ten_minutes() {
    let (header, claims, good) = received(Algorithm::Ps256);
    assert!(good);
    assert_eq!((header["alg"].as_str(), header["typ"].as_str()), (Some("PS256"), Some("JWT")));
    assert_eq!(header["x5t#S256"].as_str().unwrap().len(), 43);
    assert_eq!(
        claims,
        serde_json::json!({
            "aud": "https://login.example/t/oauth2/v2.0/token",
            "iss": "58d8", "sub": "58d8", "jti": "id-1",
            "iat": 1_795_415_050, "nbf": 1_795_414_990, "exp": 1_795_415_590,
        })
    );
    let (header, _, good) = received(Algorithm::Rs256);
    assert!(good);
    assert_eq!((header["alg"].as_str(), header.get("x5t#S256")), (Some("RS256"), None));
    assert_eq!(header["x5t"].as_str().unwrap().len(), 27);
}

/// RSA with 1,024 bits, in PKCS#1: what nobody should sign with any more.
const SMALL_KEY: &str = "MIICXAIBAAKBgQDNdYO49lBQHcnKFlE++B+KvJ7FWyGP84dRixC7G/8D9VTQUseH52v8zQ95RnYT81l7VEGFM/RqoxqOmh8mQpUP40wrmfJn+aGEdIemVE59GYMDtV9TtWvdUpMX1xsXM1P7trFYiML+b0+3gRtI9MrYXLV0ljwYGAzr3XvJWFzQhwIDAQABAoGATWQMf+lYCzWNQu/xHpT73Jh7/b77/2st94s4fCJphqYskmP8ALctOAZN49Kku5MYi5oLLA+L63cQk9J+FT1TRAGri4qUpNgdMdw0KaBUk51zbtwObjhURs2Dlx17d+dPzUZNxfGIZIbRBtx8iJ6umV/MuWh5RymobJTveWga4dECQQD0crnc67Tg56hltJ3jaEYaWcX+BzEggdSoWDZz/tv4hZ5Cy902LZMnjgscfO0/C3OYhpjn5G+GFa31EcmbMB8DAkEA1ysbmg5GnawWkraEPGcouhrn+vHm/IICLOQdywjtpvM8Tu0MqJH/Czg6vXonk5NMeZ6y+coLzcPS2h+OymIfLQJAX3LkrCTFTgRmtr/d3sv6g5OGQfig8CaB2PII4SYk0leqQj7EM8F78jf+krMdGD7qdiYoUnPaMCsK7+RwKk6R7QJBAJJI0H8wbXoM4VvlkomuaNX+LPFDPRM3IFt8y3SaIVh7zeiq6QxCFe9+zxC61+VRI5Eb//orD1NZayS4h8+4XhECQH0RyiVzBXYJUtHg7zM8wgU7gTkPs7exMpevlhY1HbYC/3yhrK2MAZFu7yLSVmAOQBXR6gG/sdqtCLpRy8GgVn0=";
