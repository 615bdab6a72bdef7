//! How strict the fake tenant is about assertions and managed identities. The assertions are
//! made here by hand, so that each can be wrong in one thing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/sandbox_client.rs"]
mod sandbox_client;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use o365_relay::{
    clock::Clock,
    sandbox::{ClientCertificate, Config, FederatedClaims, IdentityHost, Sandbox},
};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair},
};
use rustls_pki_types::{CertificateDer, PrivatePkcs1KeyDer, pem::PemObject};
use serde_json::{Value, json};

use self::sandbox_client::*;

/// An assertion; what a test changes makes it wrong.
struct Assertion {
    header: Value,
    claims: Value,
    key: RsaKeyPair,
}

impl Assertion {
    fn new(sandbox: &Sandbox, certificate: &ClientCertificate) -> Self {
        let pem = certificate.private_key_pkcs1_pem();
        let key = PrivatePkcs1KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = RsaKeyPair::from_der(key.secret_pkcs1_der()).unwrap();
        let config = sandbox.config();
        let now = Clock::system().now().0 / 1000;
        Self {
            header: json!({
                "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint(certificate, &digest::SHA256),
            }),
            claims: json!({
                "aud": format!("{}/{}/oauth2/v2.0/token", sandbox.login_url(), config.tenant_id),
                "iss": config.client_id, "sub": config.client_id,
                "jti": format!("{:032x}", fastrand::u128(..)),
                "nbf": now - 60, "iat": now, "exp": now + 540,
            }),
            key,
        }
    }

    fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    fn sign(&self, encoding: &'static dyn RsaEncoding) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&self.header), part(&self.claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(encoding, &random, signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn ps256(&self) -> String {
        self.sign(&RSA_PSS_SHA256)
    }
}

fn thumbprint(certificate: &ClientCertificate, algorithm: &'static digest::Algorithm) -> String {
    let der = CertificateDer::from_pem_slice(certificate.certificate_pem().as_bytes()).unwrap();
    URL_SAFE_NO_PAD.encode(digest::digest(algorithm, &der))
}

/// The AADSTS number, 0 for a token.
async fn present(sandbox: &Sandbox, assertion: &str) -> u64 {
    let request = TokenRequest::new(sandbox.config())
        .without("client_secret")
        .with("client_assertion_type", ASSERTION_TYPE)
        .with("client_assertion", assertion);
    let (status, answer) = request.send(sandbox).await;
    match status {
        200 => 0,
        _ => answer["error_codes"][0].as_u64().unwrap(),
    }
}

#[tokio::test]
async fn an_assertion_is_good_once_and_only_if_all_of_it_is_right() {
    let sandbox = start(Config::default()).await;
    let certificate = ClientCertificate::new(30).unwrap();
    let right = || Assertion::new(&sandbox, &certificate);
    assert_eq!(present(&sandbox, &right().ps256()).await, 700_027, "not registered");
    sandbox.register(&certificate);

    let once = right().ps256();
    assert_eq!(present(&sandbox, &once).await, 0);
    assert_eq!(present(&sandbox, &once).await, 50_013, "a replay");
    let sha1 = thumbprint(&certificate, &digest::SHA1_FOR_LEGACY_USE_ONLY);
    let mut rs256 = right().header("alg", "RS256").header("x5t", sha1);
    rs256.header.as_object_mut().unwrap().remove("x5t#S256");
    assert_eq!(present(&sandbox, &rs256.sign(&RSA_PKCS1_SHA256)).await, 0);
    let domain = format!("{}/sandbox.example/oauth2/v2.0/token", sandbox.login_url());
    assert_eq!(present(&sandbox, &right().claim("aud", domain).ps256()).await, 0);

    // As the MSAL libraries write them: padded, no start, times with a fraction.
    let padded = format!("{}=", thumbprint(&certificate, &digest::SHA256));
    let end = f64::from(u32::try_from(Clock::system().now().0 / 1000 + 600).unwrap()) + 0.67;
    let msal = right().header("x5t#S256", padded).claim("nbf", Value::Null).claim("exp", end);
    assert_eq!(present(&sandbox, &msal.ps256()).await, 0);
    let standard = thumbprint(&certificate, &digest::SHA256).replace('-', "+").replace('_', "/");
    assert_eq!(present(&sandbox, &right().header("x5t#S256", standard).ps256()).await, 0);

    let (other, now) = (ClientCertificate::new(30).unwrap(), Clock::system().now().0 / 1000);
    let foreign = Assertion { key: Assertion::new(&sandbox, &other).key, ..right() };
    let tampered = right().ps256().replacen('.', ".e30", 1);
    let elsewhere = "https://login.microsoftonline.com/t/oauth2/v2.0/token";
    for (what, assertion, code) in [
        ("another key than the certificate's", foreign.ps256(), 700_027),
        ("a certificate that nobody knows", Assertion::new(&sandbox, &other).ps256(), 700_027),
        ("another algorithm than was said", right().sign(&RSA_PKCS1_SHA256), 700_027),
        ("no algorithm", right().header("alg", "none").ps256(), 50_027),
        ("a tampered text", tampered, 50_027),
        ("no JWT", "made.up".into(), 50_027),
        ("another audience", right().claim("aud", elsewhere).ps256(), 50_013),
        ("another subject", right().claim("sub", "somebody").ps256(), 50_013),
        ("no id", right().claim("jti", Value::Null).ps256(), 50_013),
        ("a start in words", right().claim("nbf", "now").ps256(), 50_013),
        ("an end beyond all times", right().claim("exp", i64::MAX).ps256(), 50_013),
        ("no end", right().claim("exp", Value::Null).ps256(), 50_013),
        ("the past", right().claim("nbf", now - 2000).claim("exp", now - 301).ps256(), 700_024),
        ("the future", right().claim("nbf", now + 400).ps256(), 700_024),
        ("the whole day", right().claim("exp", now + 86_400).ps256(), 50_013),
    ] {
        assert_eq!(present(&sandbox, &assertion).await, code, "{what}");
    }
    sandbox.unregister(&certificate);
    assert_eq!(present(&sandbox, &right().ps256()).await, 700_027, "deleted");
}

#[tokio::test]
async fn a_federated_token_of_another_tenants_issuer_is_worth_nothing() {
    let (sandbox, other) = (start(Config::default()).await, start(Config::default()).await);
    let claims = FederatedClaims::default();
    let theirs = other.federated_token(&claims).unwrap();
    assert_eq!(present(&sandbox, &theirs).await, 700_211, "no issuer is known yet");
    let ours = sandbox.federated_token(&claims).unwrap();
    assert_eq!(present(&sandbox, &ours).await, 0);
    assert_eq!(present(&sandbox, &ours).await, 0, "the platform's token serves until it ends");
    assert_eq!(present(&sandbox, &theirs).await, 50_013, "same claims, other keys");
}

#[tokio::test]
async fn secrets_are_those_that_were_set_last() {
    let sandbox = start(Config::default()).await;
    sandbox.set_client_secrets(["one".into(), "two".into()]);
    let with = |secret: &str| TokenRequest::new(sandbox.config()).with("client_secret", secret);
    for (secret, status) in [("one", 200), ("two", 200), ("three", 401)] {
        assert_eq!(with(secret).send(&sandbox).await.0, status, "{secret}");
    }
    assert_eq!(TokenRequest::new(sandbox.config()).send(&sandbox).await.0, 401);
}

async fn played(host: IdentityHost, identity_client_id: Option<&str>) -> Sandbox {
    let identity = Some((host, "127.0.0.1:0".parse().unwrap()));
    let identity_client_id = identity_client_id.map(str::to_owned);
    start(Config { identity, identity_client_id, ..Config::default() }).await
}

/// The status of the answer.
async fn status(sandbox: &Sandbox, path: &str, headers: &str) -> u16 {
    identity_request(sandbox, path, headers).await[9..12].parse().unwrap()
}

const METADATA: &str = "Metadata: true\r\n";
const IMDS: &str = "/metadata/identity/oauth2/token";
const RESOURCE: &str = "resource=https%3A%2F%2Foutlook.office365.com";

#[tokio::test]
async fn a_host_gives_tokens_to_those_who_ask_as_a_program_on_it_does() {
    let sandbox = played(IdentityHost::Imds, None).await;
    let right = format!("{IMDS}?api-version=2018-02-01&{RESOURCE}");
    let answer = identity_request(&sandbox, &right, METADATA).await;
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&"86399".into(), &"Bearer".into()));
    let token = answer["access_token"].as_str().unwrap();
    let mut smtp = logged_in(&sandbox, token).await;
    smtp.expect("QUIT", "221 ").await;

    let get = async |path: &str, headers: &str| status(&sandbox, path, headers).await;
    assert_eq!(get(&right, "").await, 400, "no header");
    assert_eq!(get(&format!("{IMDS}?{RESOURCE}"), METADATA).await, 400, "no version");
    assert_eq!(get(&format!("{right}%2F.default"), METADATA).await, 400, "a scope");
    assert_eq!(get(&format!("{right}&client_id=x"), METADATA).await, 400, "another identity");
    assert_eq!(get(&format!("{right}&{RESOURCE}"), METADATA).await, 400, "twice");
    assert_eq!(get("/metadata/instance", METADATA).await, 404);

    let sandbox = played(IdentityHost::Imds, Some("u")).await;
    assert_eq!(status(&sandbox, &format!("{right}&client_id=u"), METADATA).await, 200);
    assert_eq!(status(&sandbox, &right, METADATA).await, 400);

    let sandbox = played(IdentityHost::AppService, None).await;
    let header = sandbox.identity_environment().remove(1).1;
    let path = format!("/msi/token?api-version=2019-08-01&{RESOURCE}");
    let proof = format!("X-IDENTITY-HEADER: {header}\r\n");
    assert_eq!(status(&sandbox, &path, &proof).await, 200);
    assert_eq!(status(&sandbox, &path, "X-IDENTITY-HEADER: x\r\n").await, 401);
    assert_eq!(status(&sandbox, &path, METADATA).await, 401);
}

#[tokio::test]
async fn a_challenge_of_arc_is_met_once_with_the_file_that_it_names() {
    let keys = tempfile::tempdir().unwrap();
    let host = IdentityHost::Arc { key_directory: keys.path().to_path_buf() };
    let sandbox = played(host, None).await;
    let path = format!("{IMDS}?api-version=2020-06-01&{RESOURCE}");
    let challenge = identity_request(&sandbox, &path, METADATA).await;
    let file = keys.path().join("challenge.key");
    let named = format!("www-authenticate: Basic realm={}\r\n", file.display());
    assert!(challenge.starts_with("HTTP/1.1 401 ") && challenge.contains(&named), "{challenge}");
    let key = std::fs::read_to_string(&file).unwrap();
    let proof = format!("{METADATA}Authorization: Basic {key}\r\n");
    assert_eq!(status(&sandbox, &path, &proof).await, 200);
    assert_eq!(status(&sandbox, &path, &proof).await, 403, "used up");
    assert_eq!(status(&sandbox, &path, "Authorization: Basic x\r\n").await, 403);
}
