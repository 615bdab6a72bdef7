//! AUTH: what may be set together, and what is told.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;
use crate::listener::{Auth, UserSource};

/// One user, with a hash that fits no password.
pub(super) fn user(name: &str) -> String {
    format!(
        "{name}:$argon2id$v=19$m=19456,t=2,p=1$c2FsdCBmb3Igbm90aGluZw$\
         dGhpcyBpcyBubyBoYXNoLCBtYWtlIGEgbmV3IG9uZSE"
    )
}

fn names(auth: &Auth) -> String {
    match auth {
        Auth::Users(UserSource::List(users)) => format!("{users:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn users_come_from_a_list_a_variable_or_a_file() {
    let list = format!("auth = \"users\"\nusers = [\"{}\", \"{}\"]\n", user("fax"), user("erp"));
    let bench = with(&format!("[listener]\n{list}"));
    assert_eq!(names(&bench.load().listeners[0].auth), "{\"erp\", \"fax\"}");
    assert_eq!(bench.shown("listener.users"), "******** (config.toml:9)");
    let bench = with("").variable("O365_RELAY__LISTENER__AUTH", "users");
    let both = format!("{} {}", user("fax"), user("erp"));
    let bench = bench.variable("O365_RELAY__LISTENER__USERS", &both);
    assert_eq!(names(&bench.load().listeners[0].auth), "{\"erp\", \"fax\"}");

    let bench = with("").set("listener.auth=users");
    let path = bench.write("users", &format!("# staff\n{}\n", user("fax")));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let bench = bench.set(&format!("listener.users_file={}", path.display()));
    let config = bench.load();
    assert!(
        matches!(&config.listeners[0].auth, Auth::Users(UserSource::File(file)) if *file == path)
    );
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn each_listener_has_its_own_users() {
    let text = format!(
        "[[listener]]\naddresses = [\"127.0.0.1:25\"]\n\n\
         [[listener]]\naddresses = [\"127.0.0.1:26\"]\nauth = \"users\"\nusers = [\"{}\"]\n",
        user("fax")
    );
    let config = with(&text).load();
    assert!(matches!(config.listeners[0].auth, Auth::None));
    assert_eq!(names(&config.listeners[1].auth), "{\"fax\"}");
}

#[test]
fn a_login_that_nobody_could_make_is_a_fault() {
    let faults = |settings: &[&str]| {
        let bench = settings.iter().fold(with(""), |bench, setting| bench.set(setting));
        bench.faults()
    };
    insta::assert_snapshot!(faults(&["listener.auth=users"]), @r#"
    - `listener.auth`: nobody could log in; set `listener.users` or `users_file`, with hashes from `o365-relay hash-password` (--set)
    "#);
    let list = format!("listener.users={}", user("fax"));
    insta::assert_snapshot!(faults(&["listener.auth=users", &list, "listener.users_file=/u"]), @r#"
    - `listener.users`: set together with `users_file`; keep one of them (--set)
    "#);
    insta::assert_snapshot!(faults(&["listener.auth=users", "listener.users_file=/nonexistent"]), @r#"
    - `listener.users_file`: could not read /nonexistent: No such file or directory (os error 2); put a line `name:hash` there for each user (--set)
    "#);
    insta::assert_snapshot!(faults(&["listener.users=fax:s3cret-password"]), @r#"
    - `listener.users`: entry 1 has no Argon2id hash, or one that asks for more than 64 MiB; write name:hash, with a hash from `o365-relay hash-password` (--set)
    "#);
    insta::assert_snapshot!(faults(&["listener.auth=yes"]), @r#"
    - `listener.auth`: found "yes", expected one of "none", "users", "any" (--set)
    "#);
    insta::assert_snapshot!(faults(&["listener.auth_without_tls=yes"]), @r#"
    - `listener.auth_without_tls`: found "yes", expected one of "true", "false" (--set)
    "#);
    let bench = with("[listener]\nusers = [\"fax\", 7]\n");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `listener.users`: entry 1 has no colon; write name:hash, with a hash from `o365-relay hash-password` (config.toml:8)
    "#);
}

#[test]
fn what_is_allowed_and_looks_wrong_is_warned_of() {
    let bench = with("").set("listener.auth=any").set(&format!("listener.users={}", user("fax")));
    let bench = bench.set("listener.addresses=0.0.0.0:25").set("listener.allow=10.0.0.0/8");
    let bench = bench.set("listener.auth_without_tls=true");
    insta::assert_snapshot!(bench.load().warnings.join("\n"), @r#"
    `listener.users`: has no effect unless `auth` is "users" (--set)
    `listener.auth`: every name and password is taken; `allow` alone says who may send (--set)
    `listener.auth_without_tls`: passwords from other hosts may cross the network unprotected (--set)
    "#);

    let bench = with("").set("listener.auth=users");
    let path = bench.write("users", &user("fax"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let bench = bench.set(&format!("listener.users_file={}", path.display()));
    insta::assert_snapshot!(bench.load().warnings.join("\n"), @r#"
    `listener.users_file`: every user of this host can read the file; set its mode to 0640 with the service's group, or to 0600 (--set)
    "#);
}
