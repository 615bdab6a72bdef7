//! Several listeners: which value holds for which of them.

use super::*;

const TWO: &str = r#"
[[listener]]
name = "erp"
addresses = ["127.0.0.1:2525"]
sender = "erp@contoso.com"

[[listener]]
addresses = ["0.0.0.0:25", "unix:/run/o365-relay/smtp.sock"]
allow = ["10.1.2.0/24", "::ffff:192.0.2.0/120"]
proxy_protocol = ["10.1.0.5"]
max_recipients = 7
unix_mode = "0666"
"#;

#[test]
fn each_listener_has_all_keys_with_their_defaults() {
    let config = with(TWO).load();
    let [erp, other] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert_eq!((erp.name.as_str(), erp.keys.as_str()), ("erp", "listener.1"));
    assert_eq!(erp.sender.as_ref().unwrap().as_str(), "erp@contoso.com");
    assert_eq!((erp.max_recipients, erp.unix_mode, erp.proxy_protocol.len()), (500, 0o660, 0));
    assert_eq!(erp.allow.len(), 2);
    assert_eq!((other.name.as_str(), other.keys.as_str()), ("0.0.0.0:25", "listener.2"));
    assert_eq!((other.max_recipients, other.unix_mode, &other.sender), (7, 0o666, &None));
    let allow: Vec<_> = other.allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["10.1.2.0/24", "192.0.2.0/24"], "mapped networks are of IPv4");
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn one_in_the_long_form_is_as_one_in_the_short_form() {
    let bench = with("[[listener]]\nmax_recipients = 7\n").set("listener.max_faults=3");
    let bench = bench.set("listener.1.max_recipients=8");
    let config = bench.load();
    let [listener] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert_eq!((listener.keys.as_str(), listener.name.as_str()), ("listener", "127.0.0.1:25"));
    assert_eq!((listener.max_recipients, listener.max_faults), (8, 3));
    assert_eq!(bench.shown("listener.max_recipients"), "8 (--set)");
}

#[test]
fn without_a_number_a_key_holds_for_each_that_does_not_set_it_itself() {
    let bench = with(TWO)
        .variable("O365_RELAY__LISTENER__MAX_RECIPIENTS", "3")
        .variable("O365_RELAY__LISTENER__2__MAX_FAULTS", "4")
        .set("listener.max_faults=5")
        .set("listener.2.unix_mode=0600");
    let config = bench.load();
    let numbers = |find: fn(&listener::Config) -> usize| {
        config.listeners.iter().map(find).collect::<Vec<_>>()
    };
    assert_eq!(numbers(|one| one.max_recipients), [3, 7]);
    assert_eq!(numbers(|one| one.max_faults as usize), [5, 4]);
    assert_eq!(numbers(|one| one.unix_mode as usize), [0o660, 0o600]);
    assert_eq!(bench.shown("listener.1.max_faults"), "5 (--set)");
    assert_eq!(
        bench.shown("listener.2.max_faults"),
        "4 (environment variable O365_RELAY__LISTENER__2__MAX_FAULTS)"
    );
    assert_eq!(bench.shown("listener.2.max_recipients"), "7 (config.toml:17)");
    assert_eq!(bench.shown("listener.2.name"), "\"0.0.0.0:25\" (default, its first address)");

    let config = with(TWO).set("listener.addresses=127.0.0.1:2526").load();
    insta::assert_snapshot!(config.warnings.join("\n"), @r#"
    `listener.addresses`: has no effect, as each of the listeners sets its own; set it for one of them, such as `listener.1.addresses` (--set)
    "#);
    assert_eq!(config.listeners[0].addresses[0].to_string(), "127.0.0.1:2525");
}

#[test]
fn the_environment_alone_makes_several() {
    let environment = |numbers: [u8; 2]| {
        let bench = with("").variable("O365_RELAY__LISTENER__ALLOW", "10.0.0.0/8");
        numbers.into_iter().fold(bench, |bench, number| {
            let name = format!("O365_RELAY__LISTENER__{number}__ADDRESSES");
            bench.variable(&name, &format!("0.0.0.0:{number}"))
        })
    };
    let config = environment([1, 2]).load();
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[1].allow[0].to_string(), "10.0.0.0/8");
    insta::assert_snapshot!(environment([1, 3]).faults(), @r#"
    - `listener.3`: there is no `listener.2`; number them from 1
    "#);
    insta::assert_snapshot!(environment([2, 2]).faults(), @r#"
    - `listener.2`: there is no `listener.1`; number them from 1
    "#);
}

#[test]
fn what_is_wrong_with_one_of_several_is_told_by_its_number() {
    let bench = with(
        r#"
[[listener]]
name = "erp"
addresses = ["127.0.0.1:2525", "unix:/run/a.sock"]
unix_mode = 660
sender = "root"

[[listener]]
max_faults = 3

[[listener]]
name = "erp"
addresses = ["0.0.0.0:2525", "unix:/run/a.sock"]
adresses = []

[[queue]]
"#,
    )
    .variable("O365_RELAY__LISTENER__2__ALOW", "::1")
    .variable("O365_RELAY__LISTENER__0__ALLOW", "::1")
    .variable("O365_RELAY__QUEUE__1__DIRECTORY", "/q")
    .set("listener.3.maxfaults=3")
    .set("listener.3.proxy_protocol=10.0.0.0/33");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `listener.3.adresses`: unknown key, did you mean `addresses`? (config.toml:20)
    - `queue`: expected a section, `[queue]` (config.toml:22)
    - `O365_RELAY__LISTENER__0__ALLOW`: unknown variable, did you mean `O365_RELAY__LISTENER__ALLOW`?
    - `O365_RELAY__LISTENER__2__ALOW`: unknown variable, did you mean `O365_RELAY__LISTENER__2__ALLOW`?
    - `O365_RELAY__QUEUE__1__DIRECTORY`: unknown variable, did you mean `O365_RELAY__QUEUE__DIRECTORY`?
    - `listener.3.maxfaults`: unknown key, did you mean `listener.3.max_faults`? (--set)
    - `listener.1.sender`: found "root", expected an e-mail address such as "erp@contoso.com" (config.toml:12)
    - `listener.3.proxy_protocol`: found "10.0.0.0/33" in the list, expected a network such as "10.1.2.0/24", or an IP address (--set)
    - `listener.1.unix_mode`: found 660, expected a file mode in quotes, such as "0660" (config.toml:11)
    - `listener.2.addresses`: required: each of several listeners names its own (config.toml:14)
    - `listener.3.addresses`: other hosts can reach 0.0.0.0:2525, and nothing says which of them may send; set `listener.3.allow`, such as ["127.0.0.0/8", "::1/128", "10.1.2.0/24"] (config.toml:19)
    - `listener.3.addresses`: 0.0.0.0:2525 overlaps with 127.0.0.1:2525 of `listener.1.addresses`; keep one of them (config.toml:19)
    - `listener.3.addresses`: unix:/run/a.sock overlaps with unix:/run/a.sock of `listener.1.addresses`; keep one of them (config.toml:19)
    - `listener.3.name`: `listener.1` is called "erp" too (config.toml:18)
    "#);
}

#[test]
fn a_second_listener_beside_the_short_form_is_told_the_way() {
    let bench = with("[listener]\nmax_faults = 3\n\n[[listener]]\naddresses = [\"[::1]:25\"]\n");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `config.toml`: not TOML: duplicate key; where there are several, write the first one as `[[listener]]` too (config.toml:10:3)
    "#);
}

#[test]
fn a_fixed_sender_must_be_one_that_is_taken() {
    let bench = with("[sender]\nallow = [\"*@fabrikam.com\"]\n").set("listener.sender=a@b.example");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `listener.sender`: a@b.example is not in `sender.allow`, so that every message would be refused; add it there (--set)
    "#);
}

#[test]
fn a_listener_that_leaves_no_room_or_trusts_everybody_is_warned_of() {
    let bench = with(TWO)
        .set("listener.2.max_connections=50")
        .set("listener.2.proxy_protocol=0.0.0.0/0")
        .set("listener.1.max_connections=50");
    insta::assert_snapshot!(bench.load().warnings.join("\n"), @r#"
    `listener.2.proxy_protocol`: 0.0.0.0/0 lets every host name itself as it likes (--set)
    `listener.2.max_connections`: one client can take all 50, as `listener.2.max_connections_per_client` is 100 (--set)
    "#);
}
