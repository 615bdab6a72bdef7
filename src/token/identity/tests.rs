//! What a stranger on the endpoint's port may try, and answers in all their spellings.

use hyper::header::HeaderMap;

use super::*;
use crate::token::Stage;

const NOW: UnixMillis = UnixMillis(1_795_415_050_000);

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() }
}

async fn challenge(directory: &Path, realm: &str) -> Result<String, TokenError> {
    let mut answer = answer(401, "");
    answer.headers.insert(WWW_AUTHENTICATE, realm.parse().unwrap());
    challenge_key(&answer, directory).await.map(|key| key.expose_secret().to_owned())
}

#[tokio::test]
async fn only_a_small_key_file_in_its_directory_is_read_out() {
    let (keys, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = write(keys.path().join("a.key"), "the key\n");
    let ask = async |path: &str| challenge(keys.path(), &format!("Basic realm={path}")).await;
    assert_eq!(ask(&good).await.unwrap(), "the key");
    assert_eq!(ask(&format!("\"{good}\"")).await.unwrap(), "the key");

    let other = write(elsewhere.path().join("secret.key"), "geheim");
    std::os::unix::fs::symlink(&other, keys.path().join("link.key")).unwrap();
    let link = keys.path().join("link.key").display().to_string();
    let climbing = keys.path().join("../").join(other.trim_start_matches('/'));
    std::fs::create_dir(keys.path().join("folder.key")).unwrap();
    let folder = keys.path().join("folder.key").display().to_string();
    for (path, reason) in [
        (write(keys.path().join("a.txt"), "geheim"), "does not end in .key"),
        (other, "is not in "),
        (climbing.display().to_string(), "is not in "),
        (link, "is not a regular file"),
        (folder, "is not a regular file"),
        (write(keys.path().join("long.key"), &"x".repeat(4097)), "is longer than 4096 octets"),
        (write(keys.path().join("empty.key"), "\n"), "is empty"),
        (keys.path().join("none.key").display().to_string(), "could not be read: No such file"),
    ] {
        let error = ask(&path).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{path}: {error}");
        assert!(!error.to_string().contains("geheim") && error.stage() == Stage::Credential);
    }
    let nameless = challenge(keys.path(), "Bearer").await.unwrap_err();
    assert!(nameless.to_string().ends_with("its 401 names no file"), "{nameless}");
    let most = write(keys.path().join("most.key"), &"x".repeat(4096));
    assert_eq!(ask(&most).await.unwrap().len(), 4096);
}

#[test]
fn a_lifetime_comes_in_several_ways() {
    let lifetime = |members: &str| {
        let body = format!("{{\"access_token\":\"eyJ0\",\"token_type\":\"Bearer\"{members}}}");
        read(&answer(200, &body), NOW).map(|fetched| fetched.lifetime.as_secs())
    };
    assert_eq!(lifetime(",\"expires_in\":\"85770\"").unwrap(), 85_770);
    assert_eq!(lifetime(",\"expires_in\":3600,\"expires_on\":\"1\"").unwrap(), 3600);
    assert_eq!(lifetime(",\"expires_on\":\"1795418650\"").unwrap(), 3600);
    assert_eq!(lifetime("").unwrap(), 3600, "the usual one");
    assert!(lifetime(",\"expires_on\":\"1795415000\"").is_err(), "it has ended");
    for body in ["", "<html>", "{}", "{\"access_token\":\"\"}", "{\"access_token\":\"a b\"}"] {
        assert!(matches!(read(&answer(200, body), NOW), Err(TokenError::Malformed { .. })));
    }
}

#[test]
fn a_refusal_is_read_in_each_hosts_spelling() {
    let ids = crate::office365::entra::Ids { tenant: "t", client_id: "c", app: None };
    for (status, body, text, advice) in [
        (
            400,
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
            "invalid_request: Identity not found [HTTP 400]",
            "System assigned > On",
        ),
        (
            400,
            r#"{"error":"invalid_resource","error_description":"AADSTS50001: x\r\ny"}"#,
            "invalid_resource: AADSTS50001: x y [HTTP 400]",
            "office365.scope",
        ),
        (
            404,
            r#"{"error":{"code":"not_here","message":"gone"}}"#,
            "not_here: gone [HTTP 404]",
            "if it lasts",
        ),
        (401, r#"{"message":"no"}"#, "no error code: no [HTTP 401]", "IDENTITY_HEADER"),
        (410, "", "no error code [HTTP 410]", "70 seconds"),
        (503, "<html>busy</html>", "no error code: <html>busy</html> [HTTP 503]", "repeated"),
    ] {
        let error = read(&answer(status, body), NOW).unwrap_err();
        assert!(error.to_string().ends_with(&format!("gave no token: {text}")), "{error}");
        let advised = error.advice(&ids);
        assert!(advised.contains(advice), "{advised}");
    }
}

#[test]
fn the_resource_is_asked_for_and_no_scope() {
    let identity = ManagedIdentity {
        host: IdentityHost::Imds { url: "http://h/p".into() },
        client_id: Some("u".into()),
    };
    assert_eq!(
        address(&identity, "https://outlook.office365.com/.default"),
        "http://h/p?api-version=2018-02-01&resource=https%3A%2F%2Foutlook.office365.com\
         &client_id=u"
    );
}
