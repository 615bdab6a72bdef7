//! The house has layers, and a layer imports only downwards. This test reads the sources and
//! fails on an import that the table below does not have; the table is the house plan.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "layers/scan.rs"]
mod scan;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

/// One module of the crate's root: its layer, what it may import beside itself, and why no more.
struct Room {
    name: &'static str,
    layer: u8,
    may_import: &'static [&'static [&'static str]],
    rule: &'static str,
}

const L0: &[&str] = &["smtp", "mail", "office365"];
const L1: &[&str] = &["telemetry", "clock", "drain", "tls"];
const L2: &[&str] = &["store", "token"];
const L3: &[&str] = &["listener", "queue", "delivery"];
const L4: &[&str] = &["daemon", "config", "http", "doctor", "sandbox", "setup"];

const BASE: &str = "clock, drain and tls use L0 and each other, without cycles";
const OWN_CONFIG: &str = "L3 looks downwards, and only queue -> delivery sideways; \
                          each part declares its own Config, which config builds";

const HOUSE: &[Room] = &[
    Room {
        name: "smtp",
        layer: 0,
        may_import: &[],
        rule: "smtp is pure and imports nothing of ours",
    },
    Room {
        name: "mail",
        layer: 0,
        may_import: &[&["smtp"]],
        rule: "L0 is pure; mail may use smtp",
    },
    Room {
        name: "office365",
        layer: 0,
        may_import: &[&["smtp"]],
        rule: "L0 is pure; office365 may use smtp",
    },
    Room { name: "clock", layer: 1, may_import: &[L0, &["drain", "tls"]], rule: BASE },
    Room { name: "drain", layer: 1, may_import: &[L0, &["clock", "tls"]], rule: BASE },
    Room { name: "tls", layer: 1, may_import: &[L0, &["clock", "drain"]], rule: BASE },
    Room {
        name: "telemetry",
        layer: 1,
        may_import: &[L0, &["clock", "drain", "tls"]],
        rule: "telemetry uses L0 and the rest of L1",
    },
    Room {
        name: "store",
        layer: 2,
        may_import: &[L0, L1],
        rule: "store and token do not know each other",
    },
    Room {
        name: "token",
        layer: 2,
        may_import: &[L0, L1],
        rule: "store and token do not know each other",
    },
    Room { name: "listener", layer: 3, may_import: &[L0, L1, L2], rule: OWN_CONFIG },
    Room { name: "delivery", layer: 3, may_import: &[L0, L1, L2], rule: OWN_CONFIG },
    Room { name: "queue", layer: 3, may_import: &[L0, L1, L2, &["delivery"]], rule: OWN_CONFIG },
    Room {
        name: "http",
        layer: 4,
        may_import: &[L0, L1, L2, &["queue"]],
        rule: "http reads snapshots: not config, listener or delivery",
    },
    Room {
        name: "sandbox",
        layer: 4,
        may_import: &[L1],
        rule: "sandbox shares no code with the side it checks: clock, drain, telemetry, tls only",
    },
    Room {
        name: "setup",
        layer: 4,
        may_import: &[L0, L1, L2, L3],
        rule: "setup uses the layers below: not config, and not the sandbox that it is tried against",
    },
    Room {
        name: "config",
        layer: 4,
        may_import: &[L0, L1, L2, L3, &["http"]],
        rule: "config builds the settings of the parts; only daemon, doctor and cli import it",
    },
    Room {
        name: "daemon",
        layer: 4,
        may_import: &[L0, L1, L2, L3, &["config", "http"]],
        rule: "daemon composes the parts; the sandbox is none of them",
    },
    Room {
        name: "doctor",
        layer: 4,
        may_import: &[L0, L1, L2, L3, &["config", "http"]],
        rule: "doctor looks from outside: it uses the parts, never the daemon or the sandbox",
    },
    Room {
        name: "cli",
        layer: 5,
        may_import: &[L0, L1, L2, L3, L4],
        rule: "nothing is above cli but main",
    },
    Room {
        name: "main",
        layer: 5,
        may_import: &[L0, L1, L2, L3, L4, &["cli"]],
        rule: "nothing is above main",
    },
];

/// What L0 must not name outside its tests: time, ids and octets arrive as arguments.
const IMPURE: &[&str] = &[
    "tokio",
    "tracing",
    "rand",
    "fastrand",
    "getrandom",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "std::net::Tcp*",
    "std::net::Udp*",
    "std::net::ToSocketAddrs",
    "std::os",
    "std::time::SystemTime",
    "std::time::Instant",
];

impl Room {
    fn of(name: &str) -> Option<&'static Room> {
        HOUSE.iter().find(|room| room.name == name)
    }

    fn may_import(&self, name: &str) -> bool {
        self.name == name || self.may_import.iter().any(|names| names.contains(&name))
    }
}

/// One offence, as a person should read it.
#[derive(Debug)]
struct Finding {
    file: String,
    line: usize,
    import: String,
    rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, import, rule } = self;
        write!(f, "{file}:{line}: `{import}`: {rule}")
    }
}

/// Who imports whom outside tests, each edge with a place where it can be seen.
type Edges = BTreeMap<(&'static str, &'static str), String>;

/// Checks one file; `file` is its path from the root of the repository.
fn check_file(file: &str, source: &str, edges: &mut Edges) -> Vec<Finding> {
    let module = module_of(file);
    let Some(own) = module.first() else { return Vec::new() }; // lib.rs only lists the rooms
    let finding = |line, import: &[String], rule| {
        let import = import.join("::");
        Finding { file: file.to_owned(), line, import, rule }
    };
    let no_place =
        |name: &str| format!("module `{name}` has no row in HOUSE of tests/layers.rs; give it one");
    let Some(room) = Room::of(own) else {
        return vec![finding(1, &module, no_place(own))];
    };
    let test_file = module.iter().any(|name| name == "tests");
    let mut findings = Vec::new();
    for path in scan::paths(source, &module) {
        let test = test_file || path.test;
        let fault = match path.segments.split_first() {
            Some((first, rest)) if first == "crate" => match rest.first().map(String::as_str) {
                None | Some("*") if path.imported => Some("import modules by name".to_owned()),
                None => None,
                Some(name) => match Room::of(name) {
                    None => Some(no_place(name)),
                    Some(other) if room.may_import(other.name) => {
                        if !test && other.name != room.name {
                            edges
                                .entry((room.name, other.name))
                                .or_insert_with(|| format!("{file}:{}", path.line));
                        }
                        None
                    }
                    Some(other) => Some(format!(
                        "{} (L{}) must not import {} (L{}): {}",
                        room.name, room.layer, other.name, other.layer, room.rule
                    )),
                },
            },
            _ if room.layer == 0 && !test => impurity(&path),
            _ => None,
        };
        findings.extend(fault.map(|rule| finding(path.line, &path.segments, rule)));
    }
    findings
}

/// Why `path` must not stand in L0, if so.
fn impurity(path: &scan::Path) -> Option<String> {
    let mut names: Vec<_> = path.segments.iter().map(String::as_str).collect();
    let glob = names.last() == Some(&"*");
    if glob {
        names.pop();
    }
    if let ["core" | "alloc", ..] = names[..] {
        names[0] = "std";
    }
    for impure in IMPURE {
        let pattern: Vec<_> = impure.split("::").collect();
        let same = |(pattern, name): (&&str, &&str)| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => pattern == name,
        };
        if !pattern.iter().zip(&names).all(same) {
            continue;
        }
        if names.len() >= pattern.len() {
            return Some(format!("L0 is pure and must not name {impure}"));
        }
        if path.imported {
            // The module as a whole, through which the rest could be reached unseen.
            return Some(format!("L0 is pure; import by name, as this also opens {impure}"));
        }
    }
    None
}

/// The first cycle among the rooms, as text.
fn cycle(edges: &Edges) -> Option<String> {
    fn walk<'a>(edges: &'a Edges, trail: &mut Vec<&'a str>, done: &mut BTreeSet<&'a str>) -> bool {
        let at = trail[trail.len() - 1];
        for (_, to) in edges.keys().filter(|(from, _)| *from == at) {
            let seen = trail.contains(to);
            trail.push(to);
            if seen || (!done.contains(to) && walk(edges, trail, done)) {
                return true;
            }
            trail.pop();
        }
        done.insert(at);
        false
    }
    let mut done = BTreeSet::new();
    HOUSE.iter().find_map(|room| {
        let mut trail = vec![room.name];
        walk(edges, &mut trail, &mut done).then(|| {
            let steps = trail.windows(2).map(|step| {
                let place = edges.iter().find(|((a, b), _)| [*a, *b] == *step).map(|(_, p)| p);
                format!("{} -> {} ({})", step[0], step[1], place.map_or("?", |p| p))
            });
            format!(
                "modules import each other in a circle: {}",
                steps.collect::<Vec<_>>().join(", ")
            )
        })
    })
}

/// `src/store/draft.rs` is the module `store::draft`; `src/lib.rs` is the root, and empty.
fn module_of(file: &str) -> Vec<String> {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut names: Vec<_> = path.split('/').map(str::to_owned).collect();
    if names.last().is_some_and(|name| name == "mod") || names == ["lib"] {
        names.pop();
    }
    names
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.display().to_string().replace('\\', "/");
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn no_module_imports_upwards() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut edges = Edges::new();
    let mut findings: Vec<_> = files
        .iter()
        .flat_map(|(file, source)| check_file(file, source, &mut edges))
        .map(|finding| finding.to_string())
        .collect();
    findings.extend(cycle(&edges));
    assert!(findings.is_empty(), "the layers are broken:\n{}", findings.join("\n"));
    // If these were not seen, the check would not see the others either.
    assert!(files.len() > 40, "the sources are gone");
    for edge in [("token", "office365"), ("listener", "store"), ("config", "delivery")] {
        assert!(edges.contains_key(&edge), "{edge:?} was not seen");
    }
}

/// 250 after mail data takes evidence, and there are two kinds: a message that is durable, and
/// upstream's own word. Both types are made in one place each, behind a private field.
#[test]
fn there_are_two_reasons_to_say_250_after_mail_data() {
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    let mut found = Vec::new();
    for (file, source) in &files {
        for line in source.lines().filter(|line| line.trim_start().starts_with("impl")) {
            let named = line.split_once("Evidence for ").map(|(_, rest)| rest);
            found.extend(named.map(|named| (file.as_str(), named.trim_end_matches([' ', '{']))));
        }
    }
    found.sort_unstable();
    assert_eq!(found, [("src/daemon/upstream.rs", "Taken"), ("src/listener/outlet.rs", "Receipt")]);
    let makes = |literal: &str| {
        let at = |(file, source): &(String, String)| source.contains(literal).then(|| file.clone());
        files.iter().filter_map(at).collect::<Vec<_>>()
    };
    assert_eq!(makes("Taken { reply }"), ["src/delivery/smarthost.rs"]);
}

#[cfg(test)]
mod the_check_itself {
    use super::*;

    /// The findings in `source`, as `line: import`.
    fn found(file: &str, source: &str) -> Vec<String> {
        let findings = check_file(file, source, &mut Edges::new());
        findings.iter().map(|f| format!("{}: {}", f.line, f.import)).collect()
    }

    #[test]
    fn names_file_line_import_and_rule() {
        let findings =
            check_file("src/store/draft.rs", "\nuse crate::token::Token;", &mut Edges::new());
        assert_eq!(
            findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "src/store/draft.rs:2: `crate::token::Token`: store (L2) must not import token (L2): \
              store and token do not know each other"
            ]
        );
    }

    #[test]
    fn sees_every_way_to_write_an_import() {
        for (source, import) in [
            ("use crate::listener;", "1: crate::listener"),
            ("pub use crate::listener as door;", "1: crate::listener"),
            ("use crate::{clock::Clock, listener::{self, Config}};", "1: crate::listener"),
            ("use crate::{\n    clock,\n    queue::*,\n};", "3: crate::queue::*"),
            ("fn f() { use crate::config; }", "1: crate::config"),
            ("fn f() { crate::daemon::run::<u8>() }", "1: crate::daemon::run"),
            ("type A = Vec<crate::http::Config>;", "1: crate::http::Config"),
            ("macro_rules! m { () => { $crate::cli::run() } }", "1: crate::cli::run"),
            ("#[cfg(test)]\nmod tests { use crate::sandbox; }", "2: crate::sandbox"),
            ("use super::token;", "1: crate::token"),
            ("mod inner { use super::super::token; }", "1: crate::token"),
            ("mod inner { }\nuse super::token;", "2: crate::token"),
            ("use o365_relay::queue::Pace;", "1: crate::queue::Pace"),
            ("use crate::*;", "1: crate::*"),
            ("use crate::attic;", "1: crate::attic"),
        ] {
            let found = found("src/store.rs", source);
            assert_eq!(found.first().map(String::as_str), Some(import), "{source}");
        }
        assert_eq!(found("src/store/draft.rs", "use super::super::token::T;").len(), 1);
        assert_eq!(found("src/attic.rs", "").len(), 1, "a module without a place");
    }

    #[test]
    fn lets_the_rest_pass() {
        for (file, source) in [
            ("src/store.rs", "use crate::{clock::{Clock, UnixMillis}, smtp::path::ReversePath};"),
            ("src/store.rs", "mod draft; use draft::Draft; pub(crate) fn f() {}"),
            ("src/store/draft.rs", "use super::error; pub(in crate::store) struct D;"),
            ("src/store.rs", "// use crate::cli;\n/* crate::cli::x /* */ crate::cli::x */"),
            (
                "src/store.rs",
                r##"const A: &str = "use crate::cli::x;"; const B: &str = r#"" crate::cli::x"#;"##,
            ),
            (
                "src/store.rs",
                "const Q: char = '\"'; const R: char = '\\''; fn f<'a>() {} // crate::cli::x",
            ),
            ("src/queue/runner.rs", "use crate::delivery::Outcome;"),
            ("src/main.rs", "fn main() { o365_relay::cli::main() }"),
            ("src/lib.rs", "pub mod cli;"),
        ] {
            assert_eq!(found(file, source), [""; 0], "{source}");
        }
    }

    #[test]
    fn holds_each_room_to_its_row() {
        for (file, may, must_not) in [
            ("src/smtp.rs", &["smtp"][..], &["mail", "office365", "clock", "store", "cli"][..]),
            ("src/mail.rs", &["smtp"], &["office365", "clock", "telemetry"]),
            ("src/office365.rs", &["smtp"], &["mail", "clock"]),
            ("src/clock.rs", &["mail", "tls"], &["telemetry", "store"]),
            ("src/telemetry.rs", &["mail", "drain"], &["store", "config"]),
            ("src/token.rs", &["tls", "office365"], &["store", "delivery"]),
            ("src/listener.rs", &["store", "token"], &["queue", "delivery", "config"]),
            ("src/delivery.rs", &["token"], &["queue", "listener", "sandbox"]),
            ("src/queue.rs", &["delivery", "store"], &["listener", "http", "config"]),
            ("src/http.rs", &["queue", "store"], &["config", "listener", "delivery", "daemon"]),
            (
                "src/sandbox.rs",
                &["clock", "drain", "telemetry", "tls"],
                &["smtp", "token", "config"],
            ),
            (
                "src/setup.rs",
                &["office365", "token", "delivery"],
                &["config", "sandbox", "http", "cli"],
            ),
            ("src/config.rs", &["http", "listener", "delivery"], &["daemon", "sandbox", "cli"]),
            ("src/daemon.rs", &["config", "http", "listener"], &["sandbox", "cli"]),
            ("src/doctor.rs", &["config", "http", "delivery"], &["daemon", "sandbox", "cli"]),
            ("src/cli.rs", &["daemon", "config", "sandbox"], &["main"]),
        ] {
            for other in may {
                assert_eq!(found(file, &format!("use crate::{other};")), [""; 0], "{file}");
            }
            for other in must_not {
                assert_eq!(found(file, &format!("use crate::{other};")).len(), 1, "{file} {other}");
            }
        }
    }

    #[test]
    fn keeps_l0_pure() {
        for source in [
            "use tokio::net::TcpStream;",
            "use std::{fmt, fs};",
            "use std::net::{IpAddr, TcpStream};",
            "use std::net;",
            "use std::time::*;",
            "use std::time::{self, Duration};",
            "use core::time;",
            "use std;",
            "fn f() { std::time::Instant::now(); }",
            "fn f() { ::std::fs::read(\"x\"); }",
            "fn f() { tracing::info!(\"x\"); }",
            "fn f() -> u32 { fastrand::u32(..) }",
            "extern crate tokio;",
            "#[cfg(not(test))] fn f() { std::env::var(\"x\"); }",
            "#[cfg(test)] use a::b;\nuse std::fs;",
            "#[cfg(test)] mod tests { fn a() {} }\nfn f() { std::fs::read(\"x\"); }",
        ] {
            assert_eq!(found("src/mail/trace.rs", source).len(), 1, "{source}");
            assert_eq!(found("src/store.rs", source), [""; 0], "{source}");
        }
        for source in [
            "use std::{fmt, net::IpAddr, time::Duration};",
            "/// Not `std::fs::File`.\nfn instant(rand: u8, tokio: u8) {}",
            "#[cfg(test)] mod tests { use std::fs; #[tokio::test] async fn f() {} }",
            "#[cfg(test)]\nuse std::fs;",
            "#[test]\nfn t() { std::fs::read(\"x\"); }",
        ] {
            assert_eq!(found("src/mail/trace.rs", source), [""; 0], "{source}");
        }
        assert_eq!(found("src/mail/header/tests.rs", "use std::fs;"), [""; 0]);
    }

    #[test]
    fn finds_circles() {
        let mut edges = Edges::new();
        check_file("src/clock.rs", "use crate::drain;", &mut edges);
        check_file("src/drain.rs", "#[cfg(test)] use crate::clock;", &mut edges);
        assert_eq!(cycle(&edges), None);
        check_file("src/drain.rs", "use crate::tls;", &mut edges);
        check_file("src/tls.rs", "\nuse crate::clock;", &mut edges);
        assert_eq!(
            cycle(&edges).unwrap(),
            "modules import each other in a circle: clock -> drain (src/clock.rs:1), \
             drain -> tls (src/drain.rs:1), tls -> clock (src/tls.rs:2)"
        );
    }
}
