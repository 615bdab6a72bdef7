//! Routes: which values each has, which accounts they come to, and what cannot be.

use super::*;
use crate::queue::Route;

const ROUTES: &str = r#"
[[route]]
senders = ["*@fabrikam.com", "*@fabrikam.net"]
mailbox = "relay@fabrikam.com"
tenant_id = "fabrikam.onmicrosoft.com"
client_id = "68d827e0-c69c-401f-8deb-b1224d129dc8"
client_secret = "another~k3y8Q~dGhpcyBpcyBub3QgYSBzZWNyZXQ"
messages_per_minute = 10

[[route]]
senders = ["*@tailspin.com"]
mailbox = "sender"
default_mailbox = "relay@tailspin.com"

[[route]]
senders = ["boss@contoso.com"]
mailbox = "boss@contoso.com"
max_messages_per_connection = 1
"#;

fn brief(route: &Route) -> String {
    let senders: Vec<_> = route.senders.iter().map(ToString::to_string).collect();
    let by_sender = if route.by_sender { " and each sender's own" } else { "" };
    let lane = &route.lane;
    format!(
        "{}: {} -> {}{by_sender}, account {}, {:?}",
        route.keys,
        senders.join(" "),
        lane.mailbox,
        lane.account,
        lane.pace
    )
}

#[test]
fn a_route_has_the_values_of_office365_for_what_it_does_not_set() {
    let config = with(ROUTES).load();
    let routes: Vec<_> = config.queue.routes.iter().map(brief).collect();
    insta::assert_snapshot!(routes.join("\n"), @r"
    route.1: *@fabrikam.com *@fabrikam.net -> relay@fabrikam.com, account 1, PerMinute(10)
    route.2: *@tailspin.com -> relay@tailspin.com and each sender's own, account 0, PerMinute(28)
    route.3: boss@contoso.com -> boss@contoso.com, account 2, PerMinute(28)
    office365:  -> relay@contoso.com, account 0, PerMinute(28)
    ");
    let [fabrikam, boss] = &config.other_accounts[..] else {
        panic!("{:?}", config.other_accounts)
    };
    assert_eq!((fabrikam.name.as_str(), fabrikam.shares_token_of), ("route.1", None));
    assert_eq!(fabrikam.token.tenant_id, "fabrikam.onmicrosoft.com");
    assert!(fabrikam.token.token_url.starts_with("https://login.microsoftonline.com/fabrikam.on"));
    assert_eq!(fabrikam.delivery.host, "smtp.office365.com");
    assert_eq!((boss.name.as_str(), boss.shares_token_of), ("route.3", Some(0)), "one token");
    assert_eq!(boss.delivery.max_messages_per_connection, 1);
    let identities: Vec<_> = config
        .identities()
        .iter()
        .map(|one| format!("{} {} {} {}", one.route, one.account, one.mailbox, one.token.tenant_id))
        .collect();
    insta::assert_snapshot!(identities.join("\n"), @r"
    route.1 route.1 relay@fabrikam.com fabrikam.onmicrosoft.com
    route.2 office365 relay@tailspin.com contoso.onmicrosoft.com
    route.3 route.3 boss@contoso.com contoso.onmicrosoft.com
    office365 office365 relay@contoso.com contoso.onmicrosoft.com
    ");
}

#[test]
fn a_route_stands_once_or_not_at_all_and_can_come_from_the_environment() {
    assert_eq!(with("").load().queue.routes.len(), 1);
    let one = "[[route]]\nsenders = [\"*@a.example\"]\nmailbox = \"relay@a.example\"\n";
    let bench = with(one);
    assert_eq!(bench.load().queue.routes[0].keys, "route");
    assert_eq!(bench.shown("route.mailbox"), "\"relay@a.example\" (config.toml:9)");
    let bench = with("")
        .variable("O365_RELAY__ROUTE__1__SENDERS", "*@a.example,b@b.example")
        .variable("O365_RELAY__ROUTE__1__MAILBOX", "relay@a.example")
        .variable("O365_RELAY__ROUTE__2__SENDERS", "*@c.example")
        .variable("O365_RELAY__ROUTE__PACE", "unlimited")
        .set("route.2.mailbox=relay@c.example");
    let routes: Vec<_> = bench.load().queue.routes.iter().map(brief).collect();
    insta::assert_snapshot!(routes.join("\n"), @r"
    route.1: *@a.example b@b.example -> relay@a.example, account 0, Unlimited
    route.2: *@c.example -> relay@c.example, account 0, Unlimited
    office365:  -> relay@contoso.com, account 0, PerMinute(28)
    ");
}

#[test]
fn a_credential_and_a_cloud_are_inherited_as_a_whole_or_not_at_all() {
    let bench = with("").set("office365.login_url=https://login.example");
    let token = bench.write("token", "e30.e30.e30");
    let bench = bench
        .set("route.senders=*@fabrikam.cn")
        .set("route.mailbox=relay@fabrikam.cn")
        .set("route.cloud=china")
        .set(&format!("route.federated_token_file={}", token.display()));
    let config = bench.load();
    let account = &config.other_accounts[0];
    assert!(matches!(account.token.credential, Credential::FederatedToken(_)));
    assert!(account.token.token_url.starts_with("https://login.partner.microsoftonline.cn/"));
    assert_eq!(account.delivery.host, "smtp.partner.outlook.cn");
    assert!(config.token.token_url.starts_with("https://login.example/"));
    let secret = bench.set("route.client_secret=k3y8Q~dGhpcyBpcyBub3QgYSBzZWNyZXQhISEhISE");
    assert!(secret.faults().contains("`route.federated_token_file`: set together with"));
}

#[test]
fn what_cannot_be_is_told_before_mail_comes() {
    let faults = |file: &str| with(file).faults();
    let all = [
        "[[route]]\nmailbox = \"a@b.example\"\n",
        "[[route]]\nsenders = []\n",
        "[[route]]\nsenders = [\"*@b.example\"]\nmailbox = \"sender\"\n",
        "[[route]]\nsenders = [\"*@b.example\"]\nmailbox = \"Relay@contoso.com\"\npace = \"unlimited\"\n",
        "[[route]]\nsenders = [\"*@b.example\"]\nsmtp_port = \"x\"\nrewrite = \"x\"\nmailbx = \"y\"\n",
        "[sender]\nmap = [\"a -> b\"]\n",
        "[sender]\nallow = [\"*@contoso.com\"]\nmap = [\"*@host.local -> it@example.com\"]\n",
    ];
    insta::assert_snapshot!(all.map(faults).join("\n"), @r#"
    - `route.senders`: required: whose mail takes this route, such as ["*@fabrikam.com"]
    - `route.senders`: empty; name those whose mail takes this route, or remove the route (config.toml:8)
    - `route.default_mailbox`: required while `mailbox` is "sender": the mailbox for messages with a null reverse-path, which name no sender (config.toml:9)
    - `office365.mailbox`: `route` has the same mailbox with other settings (account, max_connections, messages_per_minute, recipients_per_day, pace); a mailbox has one lane: give both the same (config.toml:6)
    - `route.1.rewrite`: unknown key, did you mean `sender.rewrite`? (config.toml:10)
    - `route.1.mailbx`: unknown key, did you mean `mailbox`? (config.toml:11)
    - `route.smtp_port`: found "x", expected a whole number from 1 to 65535 (config.toml:9)
    - `sender.map`: found "a -> b" in the list, expected `old address -> new address`, such as "root@host.local -> it@contoso.com" (config.toml:8)
    - `sender.map`: it@example.com is not in `sender.allow`; add it there (config.toml:9)
    "#);
    let secret = faults("[[route]]\nsenders = [\"*@b.example\"]\nclient_secret = 7\n");
    assert!(!secret.contains(SECRET), "{secret}");
}

#[test]
fn what_looks_wrong_is_a_warning() {
    let file = "[[route]]\nsenders = [\"*@a.example\"]\n\
        [[route]]\nsenders = [\"x@a.example\", \"*@contoso.com\"]\n\
        [sender]\nallow = [\"*@contoso.com\"]\n";
    let one = with(file);
    let bench = with("").set("office365.mailbox=sender");
    let bench = bench.set("office365.default_mailbox=a@b.example");
    let warnings = [one.load().warnings, bench.load().warnings].concat().join("\n");
    let warnings = warnings.replace(&format!("{}/", one.directory.path().display()), "");
    insta::assert_snapshot!(warnings, @"
    `route.1.senders`: no mail of *@a.example is taken, as `sender.allow` has not got it (config.toml:8)
    `route.2.senders`: no mail of x@a.example comes here, as `route.1` takes *@a.example (config.toml:10)
    `route.2.senders`: no mail of x@a.example is taken, as `sender.allow` has not got it (config.toml:10)
    `office365.mailbox`: any address that a client gives is taken for a mailbox, and its mail waits if there is none; set `sender.allow` to the domains of the tenant (--set)
    ");
    assert!(!format!("{:?}", with(ROUTES).load()).contains("another~"), "no secret is shown");
}
