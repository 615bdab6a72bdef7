//! TLS towards clients: what may be set together, and what is told.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use rcgen::{CertificateParams, KeyPair, date_time_ymd, generate_simple_self_signed};

use super::*;
use crate::{clock::Clock, listener::Tls};

/// A certificate and its key, and copies of them under other names.
pub(super) struct Pair(PathBuf);

impl Pair {
    pub fn new(bench: &Bench) -> Self {
        Self::valid(bench, 0, 300_000)
    }

    /// From one day after 1970-01-01 to another.
    fn valid(bench: &Bench, from: u64, to: u64) -> Self {
        let date = |days: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(days * 86_400);
        let signing_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date(from), date(to));
        let cert = params.self_signed(&signing_key).unwrap();
        let key = signing_key.serialize_pem();
        for (name, text) in [("tls_certificate_file", cert.pem()), ("tls_key_file", key)] {
            for name in [name.to_owned(), format!("{name}.other")] {
                let path = bench.write(&name, &text);
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        Self(bench.directory.path().to_owned())
    }

    pub fn path(&self, key: &str) -> String {
        self.0.join(key).display().to_string()
    }

    pub fn other(&self, key: &str) -> String {
        self.path(&format!("{key}.other"))
    }

    /// The settings for both.
    fn set(&self, bench: Bench) -> Bench {
        ["tls_certificate_file", "tls_key_file"]
            .into_iter()
            .fold(bench, |bench, key| bench.set(&format!("listener.{key}={}", self.path(key))))
    }
}

fn with_pair(extra: &str) -> Bench {
    let bench = with(extra);
    let pair = Pair::new(&bench);
    pair.set(bench)
}

#[test]
fn a_certificate_is_enough_for_starttls() {
    let bench = with_pair("");
    let config = bench.load();
    assert!(matches!(config.listeners[0].tls, Tls::StartTls(_)));
    assert_eq!(bench.shown("listener.tls"), "\"starttls\" (default, with a certificate)");
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(with("").shown("listener.tls"), "\"none\" (default, without a certificate)");
    let implicit = bench.set("listener.tls=implicit").load();
    assert!(matches!(implicit.listeners[0].tls, Tls::Implicit(_)));
}

#[test]
fn each_listener_has_its_own_tls() {
    let config = with_pair(
        "[[listener]]\naddresses = [\"127.0.0.1:465\"]\ntls = \"implicit\"\n\n\
         [[listener]]\naddresses = [\"127.0.0.1:25\"]\n\n\
         [[listener]]\naddresses = [\"127.0.0.1:26\"]\ntls = \"none\"\n",
    )
    .load();
    let [first, second, third] = &config.listeners[..] else { panic!() };
    assert!(matches!(first.tls, Tls::Implicit(_)));
    assert!(matches!(second.tls, Tls::StartTls(_)));
    assert!(matches!(third.tls, Tls::None));
}

#[test]
fn half_a_pair_is_a_fault() {
    let faults = |settings: &[&str]| {
        settings.iter().fold(with(""), |bench, setting| bench.set(setting)).faults()
    };
    insta::assert_snapshot!(faults(&["listener.tls=starttls"]), @r#"
    - `listener.tls`: TLS takes a certificate; set `listener.tls_certificate_file` and `tls_key_file` (--set)
    "#);
    insta::assert_snapshot!(faults(&["listener.tls_certificate_file=/c"]), @r#"
    - `listener.tls_certificate_file`: it takes its private key too; set `listener.tls_key_file` (--set)
    "#);
    insta::assert_snapshot!(faults(&["listener.tls_key_file=/k"]), @r#"
    - `listener.tls_key_file`: it takes its certificate too; set `listener.tls_certificate_file` (--set)
    "#);
    insta::assert_snapshot!(faults(&["listener.tls_required=true"]), @r#"
    - `listener.tls_required`: no client could send, as there is no TLS; set `tls_certificate_file` and `tls_key_file` (--set)
    "#);
}

#[test]
fn files_that_cannot_be_used_are_faults_of_their_own_key() {
    let bench = with_pair("").set("listener.tls_certificate_file=/nonexistent");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `listener.tls_certificate_file`: could not use /nonexistent: No such file or directory (os error 2); name a file in PEM (--set)
    "#);
    let bench = with_pair("");
    let key = generate_simple_self_signed(["localhost".to_owned()]).unwrap().signing_key;
    bench.write("tls_key_file", &key.serialize_pem());
    insta::assert_snapshot!(bench.faults(), @r#"
    - `listener.tls_key_file`: could not use tls_key_file: it is not the key of the first certificate in tls_certificate_file; name the two files that were made together, the server's own certificate coming first (--set)
    "#);
}

#[test]
fn a_certificate_out_of_its_time_is_warned_of() {
    let warnings = |from: u64, to: u64| {
        let bench = with("");
        let pair = Pair::valid(&bench, from, to);
        pair.set(bench).load().warnings.join("\n")
    };
    insta::assert_snapshot!(warnings(0, 18_000), @"`listener.tls_certificate_file`: the certificate expired at 2019-04-14T00:00:00Z; clients that look at it will not send. Put a new one and its key in place of the files (--set)");
    insta::assert_snapshot!(warnings(300_000, 300_001), @"`listener.tls_certificate_file`: the certificate is not valid before 2791-05-17T00:00:00Z, or the clock of this host is wrong; clients that look at it will not send (--set)");
    assert_eq!(warnings(18_000, 300_000), "");
    let today = u64::try_from(Clock::system().now().0 / 86_400_000).unwrap();
    let soon = warnings(18_000, today + 13);
    assert!(
        soon.contains("`: the certificate expires at 2") && soon.ends_with("of the files (--set)")
    );
}

#[test]
fn what_is_allowed_and_looks_wrong_is_warned_of() {
    let bench = with_pair("").set("listener.tls=none");
    insta::assert_snapshot!(bench.load().warnings.join("\n"), @r#"
    `listener.tls_certificate_file`: has no effect while `tls` is "none" (--set)
    `listener.tls_key_file`: has no effect while `tls` is "none" (--set)
    "#);
    let bench = with_pair("");
    let key = bench.directory.path().join("tls_key_file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    insta::assert_snapshot!(bench.load().warnings.join("\n"), @r#"
    `listener.tls_key_file`: every user of this host can read the file; set its mode to 0640 with the service's group, or to 0600 (--set)
    "#);
    let bench = with("").set("listener.auth=any").set("listener.addresses=0.0.0.0:25");
    let bench = bench.set("listener.allow=10.0.0.0/8");
    insta::assert_snapshot!(bench.load().warnings.join("\n"), @r#"
    `listener.auth`: every name and password is taken; `allow` alone says who may send (--set)
    `listener.auth`: clients of other hosts cannot log in, as there is no TLS; set `tls_certificate_file` and `tls_key_file`, or `auth_without_tls = true` (--set)
    "#);
}
