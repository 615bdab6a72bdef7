//! The sandbox as a set-up sees it: device codes, Graph and Exchange, each strict about what it
//! is sent, and an application that counts only once all three know it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/sandbox_client.rs"]
mod sandbox_client;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use o365_relay::{
    clock::{Clock, UnixMillis},
    sandbox::{ClientCertificate, Config, Sandbox},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use secrecy::ExposeSecret;
use serde_json::json;

use self::sandbox_client::*;

const BOTH: [&str; 2] = ["Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All"];
const PLAIN: &str = r#"{"displayName":"relay","signInAudience":"AzureADMyOrg"}"#;

async fn tenant() -> Sandbox {
    start(Config { device_interval: Duration::ZERO, ..Config::default() }).await
}

/// Object id and client id of a new application.
async fn application(sandbox: &Sandbox, token: &str) -> (String, String) {
    let (status, made) = graph(sandbox, token, "POST applications", PLAIN).await;
    assert_eq!(status, 201, "{made}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("appId"))
}

#[tokio::test]
async fn a_device_code_is_good_once_for_its_client_and_not_too_often() {
    let sandbox = start(Config::default()).await;
    let code = device_code(&sandbox, &BOTH).await;
    assert_eq!(poll(&sandbox, &code).await.1["error"], "authorization_pending");
    assert_eq!(poll(&sandbox, &code).await.1["error"], "slow_down", "within the same second");
    let sandbox = tenant().await;
    let code = device_code(&sandbox, &BOTH[..1]).await;
    assert_eq!(poll(&sandbox, "made-up").await.1["error"], "bad_verification_code");
    poll(&sandbox, &code).await;
    let (_, answer) = poll(&sandbox, &code).await;
    assert_eq!(answer["scope"], "https://graph.microsoft.com/Application.ReadWrite.All");
    assert_eq!(poll(&sandbox, &code).await.1["error"], "bad_verification_code", "used up");
    for (form, code) in [
        ("scope=https%3A%2F%2Fgraph.microsoft.com%2FApplication.ReadWrite.All", 900_144),
        ("client_id=14d82eec-204b-4c2f-b7e8-296a70dab67e", 900_144),
        ("client_id=14d82eec-204b-4c2f-b7e8-296a70dab67e&scope=Mail.Send", 70_011),
        ("client_id=c1e47a52-6d3b-4f89-8a2e-0b9d5f7c3e61&scope=openid", 700_016),
    ] {
        let (status, answer) = oauth(&sandbox, "devicecode", form).await;
        assert_eq!((status, &answer["error_codes"][0]), (400, &json!(code)), "{form}");
    }
}

#[tokio::test]
async fn graph_is_strict_about_what_it_is_sent() {
    let sandbox = tenant().await;
    let token = admin(&sandbox, &BOTH).await;
    let (id, client_id) = application(&sandbox, &token).await;
    let certificates = format!("PATCH applications/{id}");
    let password = format!("POST applications/{id}/addPassword");
    let filter = |text: &str| format!("GET applications?$filter={text}");
    for (request, body, status, part) in [
        ("GET users", "", 404, "There is no GET"),
        ("PUT applications", PLAIN, 404, "There is no PUT"),
        ("POST applications", "{}", 400, "'displayName'"),
        ("POST applications", "not json", 400, "JSON"),
        (
            "POST applications",
            r#"{"displayName":"x","signInAudience":"AzureADMultipleOrgs"}"#,
            400,
            "single",
        ),
        (
            "POST applications",
            r#"{"displayName":"x","signInAudience":"AzureADMyOrg","tag":1}"#,
            400,
            "'tag'",
        ),
        (&filter("displayName%20eq%20relay"), "", 400, "filter"),
        (&filter("displayName%20eq%20'a'%20or%201%20eq%20'1'"), "", 400, "filter"),
        (&filter("secret%20eq%20'a'"), "", 400, "no filter for secret"),
        ("GET applications/11111111-2222-4333-8444-555555555555", "", 404, "does not exist"),
        (&certificates, r#"{"displayName":"y"}"#, 400, "'keyCredentials'"),
        (
            &certificates,
            r#"{"keyCredentials":[{"type":"AsymmetricX509Cert","usage":"Verify","key":"AAAA"}]}"#,
            400,
            "not an X.509",
        ),
        (
            &certificates,
            r#"{"keyCredentials":[{"type":"Symmetric","usage":"Verify","key":"AAAA"}]}"#,
            400,
            "type or usage",
        ),
        (&password, r#"{"passwordCredential":{"displayName":"x"}}"#, 400, "'endDateTime'"),
        (
            &password,
            r#"{"passwordCredential":{"displayName":"x","endDateTime":"soon"}}"#,
            400,
            "no time",
        ),
        (
            "POST servicePrincipals",
            r#"{"appId":"11111111-2222-4333-8444-555555555555"}"#,
            400,
            "does not reference a valid",
        ),
    ] {
        let (was, answer) = graph(&sandbox, &token, request, body).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(was == status && message.contains(part), "{request} {body}: {was} {answer}");
    }
    let (status, _) = ask(
        &sandbox,
        "POST /v1.0/applications",
        &format!("Authorization: Bearer {token}\r\n"),
        PLAIN,
    )
    .await;
    assert_eq!(status, 400, "without its Content-Type");
    assert_eq!(graph(&sandbox, "eyJ.made.up", "GET applications", "").await.0, 401);

    let principal = format!(r#"{{"appId":"{client_id}"}}"#);
    let (status, made) = graph(&sandbox, &token, "POST servicePrincipals", &principal).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(graph(&sandbox, &token, "POST servicePrincipals", &principal).await.0, 409);
    // Without the other permission there is no consent.
    let less = admin(&sandbox, &BOTH[..1]).await;
    let roles =
        format!("POST servicePrincipals/{}/appRoleAssignments", made["id"].as_str().unwrap());
    assert_eq!(graph(&sandbox, &less, &roles, "{}").await.0, 403);

    // An application takes its service principal along; both can be brought back until they
    // are deleted for good.
    assert_eq!(graph(&sandbox, &token, &format!("DELETE applications/{id}"), "").await.0, 204);
    assert!(sandbox.directory().iter().all(|line| line.starts_with("deleted object")));
    for id in [&id, made["id"].as_str().unwrap()] {
        let purge = format!("DELETE directory/deletedItems/{id}");
        assert_eq!(graph(&sandbox, &token, &purge, "").await.0, 204);
        assert_eq!(graph(&sandbox, &token, &purge, "").await.0, 404);
    }
    assert_eq!(sandbox.directory(), [""; 0]);
}

#[tokio::test]
async fn a_registered_application_gets_tokens_once_it_is_whole() {
    let sandbox = tenant().await;
    let admin = admin(&sandbox, &BOTH).await;
    let (id, client_id) = application(&sandbox, &admin).await;
    let request = |secret: &str| {
        TokenRequest::new(sandbox.config())
            .with("client_id", &client_id)
            .with("client_secret", secret)
    };
    let code =
        async |secret: &str| request(secret).send(&sandbox).await.1["error_codes"][0].clone();
    assert_eq!(code("guessed").await, 7_000_215);

    let asked =
        r#"{"passwordCredential":{"displayName":"x","endDateTime":"2028-01-01T00:00:00Z"}}"#;
    let (_, made) =
        graph(&sandbox, &admin, &format!("POST applications/{id}/addPassword"), asked).await;
    let secret = made["secretText"].as_str().unwrap();
    assert_eq!(code(secret).await, 7_000_229, "no service principal yet");
    let principal = format!(r#"{{"appId":"{client_id}"}}"#);
    let (_, principal) = graph(&sandbox, &admin, "POST servicePrincipals", &principal).await;
    let (status, answer) = request(secret).send(&sandbox).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["access_token"].as_str().unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(token.split('.').nth(1).unwrap())
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["appid"], &claims["oid"]), (&json!(client_id), &principal["id"]));
    assert!(claims.get("roles").is_none(), "no consent, no role: {claims}");

    // A token is not a login: Exchange has not been told.
    let mut smtp = secured(&sandbox).await;
    smtp.say("AUTH XOAUTH2").await;
    smtp.expect(&xoauth2("relay@sandbox.example", token), "535 5.7.3 ").await;

    // Graph shows the secret once and the certificate as it is.
    let shown = graph(&sandbox, &admin, &format!("GET applications/{id}"), "").await.1;
    assert!(!shown.to_string().contains(secret), "{shown}");
    let pair = ClientCertificate::new(30).unwrap();
    let der = CertificateDer::from_pem_slice(pair.certificate_pem().as_bytes()).unwrap();
    let key = STANDARD.encode(der.as_ref());
    let body = json!({ "keyCredentials": [{ "type": "AsymmetricX509Cert", "usage": "Verify", "key": key }] });
    let path = format!("PATCH applications/{id}");
    assert_eq!(graph(&sandbox, &admin, &path, &body.to_string()).await.0, 204);
    let shown = graph(&sandbox, &admin, &format!("GET applications/{id}"), "").await.1;
    assert_eq!(shown["keyCredentials"][0]["key"], key.as_str());
}

#[tokio::test]
async fn an_application_may_read_its_own_secrets_with_the_permission_and_nothing_else() {
    const SELECT: &str = "?$select=passwordCredentials";
    const OTHER: &str = "11111111-2222-4333-8444-555555555555";
    let reader = |application_reads| Config { application_reads, ..Config::default() };
    let graph_token = async |sandbox: &Sandbox| {
        let request = TokenRequest::new(sandbox.config());
        let (_, answer) =
            request.with("scope", "https://graph.microsoft.com/.default").send(sandbox).await;
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let own =
        |sandbox: &Sandbox| format!("GET applications(appId='{}')", sandbox.config().client_id);
    let sandbox = start(reader(false)).await;
    let token = graph_token(&sandbox).await;
    let (status, answer) = graph(&sandbox, &token, &format!("{}{SELECT}", own(&sandbox)), "").await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("Authorization_RequestDenied")));

    let sandbox = start(reader(true)).await;
    let (token, secret) = (graph_token(&sandbox).await, sandbox.config().client_secret.clone());
    let end = Clock::system().now() + Duration::from_secs(60);
    sandbox.set_client_secrets_until([(secret.clone(), end)]);
    let (status, shown) = graph(&sandbox, &token, &format!("{}{SELECT}", own(&sandbox)), "").await;
    assert_eq!(status, 200, "{shown}");
    let listed = &shown["passwordCredentials"][0];
    assert_eq!(listed["endDateTime"], end.rfc3339());
    let secret = secret.expose_secret();
    assert_eq!(listed["hint"], secret[..3]);
    assert!(!shown.to_string().contains(secret), "{shown}");
    for (request, expected) in [
        (own(&sandbox), 400),
        (format!("{}?$top=1", own(&sandbox)), 400),
        (format!("GET applications(appId='{OTHER}'){SELECT}"), 404),
        ("POST applications".into(), 403),
        (own(&sandbox).replace("GET", "DELETE"), 403),
    ] {
        assert_eq!(graph(&sandbox, &token, &request, "{}").await.0, expected, "{request}");
    }
    let mail = TokenRequest::new(sandbox.config()).send(&sandbox).await.1;
    let mail = mail["access_token"].as_str().unwrap();
    assert_eq!(graph(&sandbox, mail, &own(&sandbox), "").await.0, 401, "a token for Exchange");

    // A secret that has ended is refused with its own number.
    sandbox.set_client_secrets_until([(sandbox.config().client_secret.clone(), UnixMillis(0))]);
    let (_, answer) = TokenRequest::new(sandbox.config()).send(&sandbox).await;
    assert_eq!(answer["error_codes"][0], 7_000_222, "{answer}");
}

#[tokio::test]
async fn the_control_endpoint_plays_the_exchange_admin() {
    let control_address = Some("127.0.0.1:0".parse().unwrap());
    let sandbox = start(Config { control_address, ..Config::default() }).await;
    let script = "Connect-ExchangeOnline -Organization 'sandbox.example'\n\
                  New-DistributionGroup -Name 'g' -Type Security\n";
    let (status, answer) = control(&sandbox, "POST /exchange", script).await;
    assert_eq!((status, &answer["output"]), (200, &json!([])), "{answer}");
    let (status, answer) = control(&sandbox, "POST /exchange", script).await;
    assert_eq!(status, 400);
    assert_eq!(answer["error"], "line 2: a group g is there");
    let (_, directory) = control(&sandbox, "GET /directory", "").await;
    assert_eq!(directory, json!({ "graph": [], "exchange": ["group g"] }));
    assert_eq!(control(&sandbox, "PUT /directory", "").await.0, 405);
}
