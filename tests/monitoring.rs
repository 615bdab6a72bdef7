//! What an operator watches: `/metrics` of a relay at work, and that documentation, alerts and
//! dashboard speak of metrics that there are.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use o365_relay::{
    office365::replies::PauseRule,
    telemetry::{
        journald::ids,
        metrics::{
            Kind, Spec,
            catalogue::ALL,
            causes::{Cut, Deferred, Failed, NoEntry, NoToken, NotStored, NoticeKind, Refused},
        },
    },
};
use serde_json::Value;
use tokio::net::TcpListener;

use self::support::{
    client::{Client, get},
    relay::{MAILBOX, Place, Relay, closed_port, forward, mail},
    wait::until,
};

fn specs() -> impl Iterator<Item = &'static Spec> {
    ALL.iter().map(|metric| metric.spec())
}

/// A metric, its label, and the values of that with what they mean.
type Set = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Whoever changes a metric finds here what the page has to say.
#[test]
fn the_page_of_metrics_is_the_catalogue() {
    let page = fs::read_to_string("docs/monitoring.md").unwrap();
    let mut expected = vec![
        String::new(),
        "| Metric | Type | Unit | Labels | Meaning |".to_owned(),
        "|---|---|---|---|---|".into(),
    ];
    for spec in specs() {
        let labels: Vec<_> = spec.labels.iter().map(|label| format!("`{label}`")).collect();
        expected.push(format!(
            "| `{}` | {} | {} | {} | {} |",
            spec.full_name(),
            spec.kind.as_str(),
            spec.unit(),
            labels.join(", "),
            spec.meaning
        ));
    }
    let sets: [Set; 9] = [
        ("connections_refused_total", "cause", NoEntry::ALL),
        ("sessions_cut_total", "cause", Cut::ALL),
        ("client_refusals_total", "cause", Refused::ALL),
        ("store_refusals_total", "cause", NotStored::ALL),
        ("recipients_deferred_total", "cause", Deferred::ALL),
        ("recipients_failed_total", "cause", Failed::ALL),
        ("notices_queued_total", "kind", NoticeKind::ALL),
        ("pauses_total", "cause", PauseRule::KINDS),
        ("token_refresh_failures_total", "cause", NoToken::ALL),
    ];
    for (metric, label, causes) in sets {
        expected.push(format!("\n| `{metric}` | `{label}` | Meaning |"));
        expected.push("|---|---|---|".into());
        let row = |(cause, meaning): &(&str, &str)| format!("| | `{cause}` | {} |", meaning.trim());
        expected.extend(causes.iter().map(row));
    }
    expected.push("\n| `MESSAGE_ID` | Event | Tells that |".into());
    expected.push("|---|---|---|".into());
    let row = |(text, id, meaning): &(&str, &str, &str)| format!("| `{id}` | {text} | {meaning} |");
    expected.extend(ids::KINDS.iter().map(row));
    for table in expected.join("\n").split("\n\n") {
        let whole = format!("\n\n{}\n", table.trim());
        // With a line more the table would have a row of the past.
        let ends = page.split(&whole).nth(1).is_none_or(|rest| !rest.starts_with('|'));
        assert!(format!("{page}\n").contains(&whole) && ends, "docs/monitoring.md lacks:{whole}");
    }
}

/// The alerts, by name, with their expressions.
fn alerts() -> BTreeMap<String, String> {
    let rules = fs::read_to_string("config/prometheus/rules.yml").unwrap();
    let mut alerts = BTreeMap::new();
    for rule in rules.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (_, expression) = rest.split_once("expr:").unwrap();
        let expression = expression.lines().take_while(|line| !line.contains("labels:"));
        let expression = expression.collect::<Vec<_>>().join(" ");
        assert!(rest.contains("severity:") && rest.contains("summary:"), "{name}");
        alerts.insert(name.to_owned(), expression);
    }
    alerts
}

/// What a section of docs/operating.md has to tell, each in a line of its own.
fn assert_whole(name: &str, section: &str) {
    for line in ["- Means: ", "- Urgent: ", "- Do: ", "- Over: "] {
        assert!(section.lines().any(|text| text.starts_with(line)), "{name} lacks {line:?}");
    }
}

#[test]
fn each_alert_and_each_pause_has_its_section_and_each_section_is_one_of_them() {
    let page = fs::read_to_string("docs/operating.md").unwrap();
    let sections = page.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap());
    let (mut told, mut told_pauses) = (BTreeSet::new(), BTreeSet::new());
    for (name, section) in sections {
        assert_whole(name, section);
        if name.starts_with("O365Relay") { &mut told } else { &mut told_pauses }.insert(name);
    }
    let alerts = alerts();
    let known: BTreeSet<_> = alerts.keys().map(String::as_str).collect();
    assert_eq!(told, known);
    assert!(known.len() > 15, "the alerts are gone");
    let pauses: BTreeSet<_> = PauseRule::KINDS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(told_pauses, pauses);
}

/// The names of metrics in a query, with those of histograms as they are declared.
fn metrics_of(query: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    query
        .split(|c| !word(c))
        .filter(|name| name.starts_with("o365_relay_") || name.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Panics if a query asks for what there is not.
fn assert_known(place: &str, query: &str) {
    let names = metrics_of(query);
    for name in &names {
        let spec = specs().find(|spec| match spec.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.strip_suffix(end) == Some(&spec.full_name())),
            _ => spec.full_name() == *name,
        });
        assert!(spec.is_some(), "{place}: there is no {name}");
    }
    // Labels by which series are put together, or chosen.
    let known: BTreeSet<_> = specs()
        .filter(|spec| names.iter().any(|name| name.starts_with(&spec.family())))
        .flat_map(|spec| spec.labels.iter().copied())
        .chain(["instance", "job", "le"])
        .collect();
    for part in query.split("by (").skip(1) {
        for label in part.split(')').next().unwrap().split(',') {
            assert!(known.contains(label.trim()), "{place}: no label {label} in {query}");
        }
    }
    for part in query.split('{').skip(1) {
        for choice in part.split('}').next().unwrap().split(',') {
            let label = choice.split(['=', '!']).next().unwrap().trim();
            assert!(known.contains(label), "{place}: no label {label} in {query}");
        }
    }
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let mut asked = BTreeSet::new();
    for (alert, expression) in alerts() {
        if alert != "O365RelayDown" {
            assert!(!metrics_of(&expression).is_empty(), "{alert} asks for nothing");
            assert_known(&alert, &expression);
        }
        asked.extend(metrics_of(&expression));
    }
    let dashboard = fs::read_to_string("config/grafana/dashboard.json").unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let query = target["expr"].as_str().unwrap();
            assert!(!metrics_of(query).is_empty(), "{title} asks for nothing: {query}");
            assert_known(title, query);
            asked.extend(metrics_of(query));
        }
    }
    // And the other way round: what is worth measuring is worth showing.
    let off_stage = [
        "build_info",
        "recipients_accepted",
        "connections_accepted",
        "credential_expiry",
        "pause_age",
        "token_valid",
    ];
    for spec in specs().filter(|spec| !spec.full_name().starts_with("process_")) {
        let name = spec.full_name();
        let shown = asked.iter().any(|asked| asked.starts_with(&name));
        let excused = off_stage.iter().any(|off| name.contains(off));
        assert!(shown || excused, "{name} is neither on the dashboard nor in an alert");
    }
}

async fn page(relay: &Relay) -> String {
    let (code, body) = get(relay.http(), "/metrics").await;
    assert_eq!(code, 200, "{body}");
    body
}

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}")).parse().unwrap()
}

async fn until_value(relay: &Relay, series: &str, wanted: f64) {
    until(series, async || {
        let found = value(&page(relay).await, series);
        ((found - wanted).abs() < 1e-9).then_some(())
    })
    .await;
}

/// Counters belong to the process, so that one relay at work has this test for itself.
#[tokio::test]
async fn a_relay_at_work_is_seen_in_every_metric() {
    let mut place = Place::new().await;
    place.set("listener.name=printers");
    place.set("sender.allow=*@sandbox.example");
    place.set("office365.client_secret_expires=2099-01-01");
    place.set("listener.max_connections=2");
    place.set("office365.pace=steady"); // which counts the recipients of the day
    // Nobody is behind the port at first: a pause.
    let (socket, port) = closed_port();
    place.set_smtp_port(port);
    let relay = place.relay().await;
    // What will be counted is there before the first time, so that `increase` sees it.
    let fresh = page(&relay).await;
    for series in [
        "o365_relay_pauses_total{lane=\"all\",cause=\"busy\"}",
        "o365_relay_pauses_total{lane=\"relay@sandbox.example\",cause=\"login\"}",
        "o365_relay_upstream_failures_total{stage=\"tls\"}",
        "o365_relay_recipients_failed_total{lane=\"relay@sandbox.example\",cause=\"gave_up\"}",
        "o365_relay_connections_refused_total{listener=\"printers\",cause=\"not_allowed\"}",
    ] {
        assert!(value(&fresh, series).abs() < 1e-9, "{series}");
    }
    let mut client = relay.client().await;
    let text = mail(MAILBOX, "first");
    client.send(MAILBOX, &["somebody@example.com", "else@example.com"], &text).await;
    until_value(&relay, "o365_relay_paused{lane=\"all\"}", 1.0).await;

    let early = page(&relay).await;
    for (series, wanted) in [
        ("o365_relay_messages_accepted_total{listener=\"printers\"}", 1.0),
        ("o365_relay_recipients_accepted_total{listener=\"printers\"}", 2.0),
        ("o365_relay_connections{listener=\"printers\"}", 1.0),
        ("o365_relay_connections_limit{listener=\"printers\"}", 2.0),
        ("o365_relay_queue_messages{lane=\"relay@sandbox.example\"}", 1.0),
        ("o365_relay_pause_cause{lane=\"all\",cause=\"network\"}", 1.0),
        ("o365_relay_pauses_total{lane=\"all\",cause=\"network\"}", 1.0),
        ("o365_relay_upstream_failures_total{stage=\"connect\"}", 1.0),
        ("o365_relay_paused{lane=\"relay@sandbox.example\"}", 0.0),
        ("o365_relay_recipients_relayed_total{lane=\"relay@sandbox.example\"}", 0.0),
        ("o365_relay_token_valid", 1.0),
        ("o365_relay_store_poisoned", 0.0),
    ] {
        let found = value(&early, series);
        assert!((found - wanted).abs() < 1e-9, "{series} is {found}");
    }
    assert!(value(&early, "o365_relay_token_remaining_seconds") > 60.0);
    assert!(value(&early, "o365_relay_credential_remaining_seconds") > 1e9);

    let denied = client.say("MAIL FROM:<somebody@elsewhere.example>").await;
    assert!(denied.starts_with("550 5.7.1"), "{denied}");
    let second = Client::connect(relay.smtp()).await;
    let refused = tokio::net::TcpStream::connect(relay.smtp()).await.unwrap();
    let connections = "o365_relay_connections_refused_total{listener=\"printers\",cause=";
    until_value(&relay, &format!("{connections}\"max_connections\"}}"), 1.0).await;
    drop((second, refused));
    let cut = "o365_relay_sessions_cut_total{listener=\"printers\",cause=\"disconnected\"}";
    until_value(&relay, cut, 1.0).await;

    let listener: TcpListener = socket.listen(16).unwrap();
    forward(listener, place.sandbox.smtp_address());
    support::relay::pass(Duration::from_secs(10)).await;
    place.arrivals(1).await;
    relay.settled(2).await;
    assert!(client.say("QUIT").await.starts_with("221"));
    let lane = "lane=\"relay@sandbox.example\"";
    until_value(&relay, &format!("o365_relay_recipients_relayed_total{{{lane}}}"), 2.0).await;
    until_value(&relay, "o365_relay_connections{listener=\"printers\"}", 0.0).await;
    let late = page(&relay).await;
    for (series, wanted) in [
        (format!("o365_relay_queue_messages{{{lane}}}"), 0.0),
        (format!("o365_relay_queue_oldest_age_seconds{{{lane}}}"), 0.0),
        ("o365_relay_paused{lane=\"all\"}".into(), 0.0),
        (format!("o365_relay_day_recipients{{{lane}}}"), 2.0),
        ("o365_relay_client_refusals_total{listener=\"printers\",cause=\"sender\"}".into(), 1.0),
        (cut.into(), 1.0),
        ("o365_relay_relay_delay_seconds_count".into(), 2.0),
        ("o365_relay_upstream_duration_seconds_count{stage=\"end_of_data\"}".into(), 1.0),
    ] {
        let found = value(&late, &series);
        assert!((found - wanted).abs() < 1e-9, "{series} is {found}");
    }
    assert!(value(&late, "o365_relay_store_commit_changes_sum") >= 2.0);

    // All are there in one of the two pages, described as the catalogue has them.
    for spec in specs() {
        let (name, kind) = (spec.full_name(), spec.kind.as_str());
        let described = format!("# TYPE {name} {kind}\n");
        assert!(early.contains(&described) || late.contains(&described), "no {name}");
    }
    for private in ["somebody", "elsewhere", "example.com", "127.0.0.1", "printer.example"] {
        assert!(!early.contains(private) && !late.contains(private), "{private} is shown");
    }
    relay.stop().await;
}
