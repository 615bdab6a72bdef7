use std::collections::HashSet;

use super::{catalogue::ALL, *};

/// Rules of <https://prometheus.io/docs/practices/naming/>, as far as a program can tell.
#[test]
fn names_follow_the_rules_and_stand_once() {
    let mut seen = HashSet::new();
    for spec in ALL.iter().map(|metric| metric.spec()) {
        let name = spec.full_name();
        assert!(seen.insert(name.clone()), "{name} stands twice");
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(fit) && !name.contains("__"), "{name}");
        assert!(name.starts_with(PREFIX) || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), spec.kind == Kind::Counter, "{name}");
        for unit in ["_ms", "_millis", "_minutes", "_hours", "_days", "_kb", "_mb", "_percent"] {
            assert!(!name.contains(unit), "{name} is not in a base unit");
        }
        assert!(!spec.meaning.ends_with('.') && !spec.meaning.contains('\n'), "{name}");
        for label in spec.labels {
            let fixed =
                ["lane", "listener", "account", "cause", "stage", "kind", "version", "mode"];
            assert!(fixed.contains(label), "{name}: is the number of values of {label} bounded?");
        }
    }
}

/// The values of a series, by its name and labels as they are on the page.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn both_formats_describe_a_counter_by_the_name_it_is_asked_for() {
    know_lane("format@contoso.com");
    catalogue::RECIPIENTS_RELAYED.add(&["format@contoso.com"], 3);
    let mut page = Page::default();
    page.set(&catalogue::PROCESS_CPU, &[], 1.5);
    let (open, plain) = (page.open_metrics(), page.plain());
    let series = "o365_relay_recipients_relayed_total{lane=\"format@contoso.com\"}";
    assert_eq!((value(&open, series), value(&plain, series)), (Some(3.0), Some(3.0)));
    assert!(open.contains("\n# TYPE o365_relay_recipients_relayed counter\n"));
    assert!(plain.contains("\n# TYPE o365_relay_recipients_relayed_total counter\n"));
    assert!(plain.contains("\n# HELP process_cpu_seconds_total Processor time used.\n"));
    assert!(open.ends_with("# EOF\n") && !plain.contains("EOF"));
    assert!(!plain.contains("connections_accepted_accepted"));
}

#[test]
fn lanes_beyond_the_bound_share_a_label() {
    let lanes: Vec<_> = (0..1000).map(|number| format!("box{number}@bound.example")).collect();
    let labels: HashSet<_> = lanes.iter().map(|name| lane(name)).collect();
    assert!(labels.len() <= 101 && labels.contains(OTHER), "{}", labels.len());
    assert_eq!(lane("all"), "all");
    let known = labels.iter().find(|label| *label != OTHER).unwrap();
    assert_eq!(lane(known), *known, "who has a label keeps it");

    let mut page = Page::default();
    for name in &lanes {
        page.add(&catalogue::QUEUE_MESSAGES, &[&lane(name)], 1.0);
        page.most(&catalogue::QUEUE_OLDEST, &[&lane(name)], 5.0);
    }
    let text = page.open_metrics();
    let sum: f64 = text
        .lines()
        .filter(|line| line.starts_with("o365_relay_queue_messages{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!((sum - 1000.0).abs() < 0.5, "none is lost: {sum}");
    assert_eq!(value(&text, "o365_relay_queue_oldest_age_seconds{lane=\"other\"}"), Some(5.0));
}

#[test]
fn a_label_that_holds_anything_breaks_no_line() {
    let mut page = Page::default();
    page.set(&catalogue::QUEUE_MESSAGES, &["a\"b\\c\nd 1"], 7.0);
    let text = page.plain();
    let line = text.lines().find(|line| line.starts_with("o365_relay_queue_messages{")).unwrap();
    assert_eq!(line, r#"o365_relay_queue_messages{lane="a\"b\\c\nd 1"} 7.0"#);
}

#[test]
fn replies_of_ours_are_told_apart() {
    use causes::Refused;
    let of = |code, status, text: &'static str| {
        Refused::of(&crate::smtp::reply::Reply::new(code, status, text))
    };
    for (code, status, cause) in [
        (421, (4, 7, 0), Refused::Faults),
        (421, (4, 4, 2), Refused::Timeout),
        (421, (4, 3, 2), Refused::Closing),
        (452, (4, 5, 3), Refused::Recipients),
        (452, (4, 3, 1), Refused::Storage),
        (451, (4, 3, 0), Refused::NotNow),
        (550, (5, 7, 1), Refused::Sender),
        (552, (5, 3, 4), Refused::Size),
        (503, (5, 5, 1), Refused::Order),
        (500, (5, 5, 1), Refused::Command),
        (501, (5, 1, 3), Refused::Address),
        (553, (5, 1, 3), Refused::Address),
        (530, (5, 7, 0), Refused::Login),
        (554, (5, 4, 6), Refused::Loop),
        (550, (5, 1, 1), Refused::Permanent),
        (450, (4, 2, 0), Refused::Transient),
    ] {
        assert_eq!(of(code, status, "no"), cause, "{code} {status:?}");
    }
}
