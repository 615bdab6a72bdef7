//! What is refused, and in which words; what is only warned about.

use super::*;

#[test]
fn what_is_missing_is_told_with_every_way_to_set_it() {
    insta::assert_snapshot!(Bench::bare().faults(), @r#"
    - `office365.tenant_id`: required; set it below `[office365]`, or as O365_RELAY__OFFICE365__TENANT_ID or AZURE_TENANT_ID in the environment
    - `office365.client_id`: required; set it below `[office365]`, or as O365_RELAY__OFFICE365__CLIENT_ID or AZURE_CLIENT_ID in the environment
    - `office365.client_secret_file`: required; set it, or `client_secret`, `certificate_file`, `federated_token_file` or `managed_identity`, below `[office365]`, or as O365_RELAY__OFFICE365__CLIENT_SECRET_FILE or O365_RELAY__OFFICE365__CLIENT_SECRET or AZURE_CLIENT_SECRET in the environment
    - `office365.mailbox`: required; set it below `[office365]`, or as O365_RELAY__OFFICE365__MAILBOX in the environment
    - `default.toml`: no such file; `o365-relay config example` prints one to start from
    "#);
    let partly = Bench::new("[office365]\ntenant_id = \"contoso.com\"\n");
    assert_eq!(partly.load_all().map(drop).unwrap_err().iter().count(), 3);
}

#[test]
fn all_faults_come_at_once() {
    let bench = with(
        r#"max_connections = "many"
cloud = "mars"
smtp_prot = 25
certificate_file = "/x"

[[route]]
senders = []

[listner]
allow = []

[listener]
max_recipients = -1
command_timeout = 5
allow = ["10.0.0.0/33", "localhost", "::1"]
mailbox = "x"
frobnicate = true

[sender]
rewrite = "mailbox"

[queue]
give_up_after = "5M"
min_free_bytes = "lots"
directory = ["/a"]

[queue.max_messages]
x = 1
"#,
    )
    .variable("O365_RELAY_LISTENER__MAX_FAULTS", "3")
    .variable("O365_RELAY_HTTP_ADRESS", "off")
    .variable("O365_RELAY__LISTENER__MAX_RECIPIENT", "3")
    .variable("O365_RELAY__SENDER__REWRITE", "mailbox")
    .variable("O365_RELAY__HTTP__ADDRESS", "localhost:80")
    .variable("O365_RELAY_FOO", "1")
    .variable("o365_relay__log__level", "debug")
    .variable("O365_RELAY__LOG__FORMAT", "\u{fffd}")
    .set("log.leval=debug")
    .set("daemon.shutdown_grace")
    .set("rubbish")
    .set("log.level=inof");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `office365.smtp_prot`: unknown key, did you mean `smtp_port`? (config.toml:9)
    - `listner`: unknown section, did you mean `[listener]`? (config.toml:15)
    - `listener.mailbox`: unknown key, did you mean `office365.mailbox`? (config.toml:22)
    - `listener.frobnicate`: unknown key; `o365-relay config example` shows all there are (config.toml:23)
    - `O365_RELAY_FOO`: unknown variable; ours are O365_RELAY_CONFIG and O365_RELAY__SECTION__KEY
    - `O365_RELAY_HTTP_ADRESS`: unknown variable, did you mean `O365_RELAY__HTTP__ADDRESS`?
    - `O365_RELAY_LISTENER__MAX_FAULTS`: not read; write `O365_RELAY__LISTENER__MAX_FAULTS`
    - `O365_RELAY__LISTENER__MAX_RECIPIENT`: unknown variable, did you mean `O365_RELAY__LISTENER__MAX_RECIPIENTS`?
    - `O365_RELAY__LOG__FORMAT`: its value is not UTF-8
    - `o365_relay__log__level`: not read; write `O365_RELAY__LOG__LEVEL`
    - `log.leval`: unknown key, did you mean `log.level`? (--set)
    - `daemon.shutdown_grace`: no value; write `section.key=value` (--set)
    - `--set`: argument 3 is not `section.key=value`
    - `office365.cloud`: found "mars", expected one of "global", "gcc-high", "dod", "china", "hve" (config.toml:8)
    - `office365.max_connections`: found "many", expected a whole number from 1 to 1000 (config.toml:7)
    - `listener.allow`: found "10.0.0.0/33", "localhost" in the list, expected a network such as "10.1.2.0/24", or an IP address (config.toml:21)
    - `listener.max_recipients`: found -1, expected a whole number from 1 to 100000 (config.toml:19)
    - `listener.command_timeout`: found 5, expected a duration with its unit from 1s to 1d, such as "90s" or "1h 30m" (config.toml:20)
    - `queue.directory`: found a list, expected a path in quotes (config.toml:31)
    - `queue.give_up_after`: found "5M", expected a duration with its unit from 1m to 30d, such as "90s" or "1h 30m" (config.toml:29)
    - `queue.min_free_bytes`: found "lots", expected a size from 0B to 1PiB, such as "35MiB", or octets (config.toml:30)
    - `queue.max_messages`: found a section, expected a whole number from 1 to 1000000000 (config.toml:33)
    - `http.address`: found "localhost:80", expected an IP address with a port, such as "127.0.0.1:9587", or "off" (environment variable O365_RELAY__HTTP__ADDRESS)
    - `log.level`: found "inof", expected "error", "warn", "info", "debug", "trace" or "off", or a list such as "info,o365_relay::delivery=debug" (--set)
    - `office365.certificate_file`: set together with `client_secret` (config.toml:5); keep one of them (config.toml:10)
    - `office365.certificate_file`: /x could not be read: No such file or directory (os error 2); make /x exist and readable for the user the relay runs as (office365.certificate_file); it is read again for each request (config.toml:10)
    - `route.senders`: empty; name those whose mail takes this route, or remove the route (config.toml:13)
    "#);
}

#[test]
fn services_of_kubernetes_are_no_settings_of_ours() {
    let bench = with("")
        .variable("O365_RELAY_SERVICE_HOST", "10.0.0.7")
        .variable("O365_RELAY_SERVICE_PORT", "25")
        .variable("O365_RELAY_SERVICE_PORT_SMTP", "25")
        .variable("O365_RELAY_PORT", "tcp://10.0.0.7:25")
        .variable("O365_RELAY_PORT_25_TCP_ADDR", "10.0.0.7")
        .variable("O365_RELAY_METRICS_PORT", "tcp://10.0.0.7:9587");
    bench.load();
    let bench = bench.variable("O365_RELAY_OFFICE365_SMTP_PORT", "25");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `O365_RELAY_OFFICE365_SMTP_PORT`: not read; write `O365_RELAY__OFFICE365__SMTP_PORT`
    "#);
}

#[test]
fn a_file_that_is_no_toml_is_told_by_line_and_column() {
    let bench = Bench::new("[office365]\nclient_secret = k3y8Q~dGhpcyBpcyBub3QgYSBz\n\n[http\n")
        .variable("O365_RELAY__LISTENER__MAX_FAULTS", "none");
    insta::assert_snapshot!(bench.faults(), @r#"
    - `config.toml`: not TOML: string values must be quoted, expected literal string (config.toml:2:17)
    - `config.toml`: not TOML: unclosed table, expected `]` (config.toml:4:6)
    - `listener.max_faults`: found "none", expected a whole number from 1 to 1000000 (environment variable O365_RELAY__LISTENER__MAX_FAULTS)
    "#);
    let doubled = with("mailbox = \"x@y.z\"\n");
    insta::assert_snapshot!(doubled.faults(), @r#"
    - `config.toml`: not TOML: duplicate key (config.toml:7:1)
    "#);
}

#[test]
fn a_file_that_was_asked_for_must_be_readable() {
    let mut bench = Bench::bare();
    bench.sources.file = Some(bench.directory.path().join("none.toml"));
    insta::assert_snapshot!(bench.faults(), @r#"
    - `none.toml`: could not read the file: No such file or directory (os error 2); create it with `o365-relay config example > none.toml`, or name another file (--config)
    "#);
    bench.sources.file = Some(bench.directory.path().to_path_buf());
    assert!(bench.faults().contains("could not read the file: Is a directory"));
    let latin = bench.directory.path().join("latin.toml");
    fs::write(&latin, b"# \xe9\n").unwrap();
    bench.sources.file = None;
    let bench = bench.variable("O365_RELAY_CONFIG", &latin.display().to_string());
    insta::assert_snapshot!(bench.faults(), @r#"
    - `latin.toml`: could not read the file: stream did not contain valid UTF-8; save it as UTF-8 (environment variable O365_RELAY_CONFIG)
    "#);
}

#[test]
fn each_kind_of_value_says_what_it_expects() {
    let arguments = [
        "office365.tenant_id=common",
        "office365.tenant_id=<tenant>",
        "office365.client_id=my-app",
        "office365.client_id=00000000-0000-0000-0000-000000000000",
        "office365.client_secret=YOUR_SECRET",
        "office365.mailbox=relay",
        "office365.mailbox=sender",
        "office365.login_url=http://login.example",
        "office365.login_url=https://user:hunter2@login.example",
        "office365.scope=openid",
        "office365.smtp_host=smtp.example:587",
        "office365.smtp_port=0",
        "office365.pace=fast",
        "office365.ehlo_name=my_host",
        "office365.idle_close=30",
        "office365.ca_file=/nonexistent.pem",
        "sender.allow=contoso.com",
        "listener.addresses=localhost:25",
        "listener.addresses=",
        "listener.max_message_size=35 potatoes",
        "http.address=9587",
        "log.format=syslog",
    ];
    let mut out = String::new();
    for argument in arguments {
        out.push_str(&with("").set(argument).faults());
        out.push('\n');
    }
    insta::assert_snapshot!(out, @r#"
    - `office365.tenant_id`: found "common", which is no tenant: an application logs in to its own one; expected the Directory (tenant) ID or a domain of the tenant, such as "contoso.onmicrosoft.com" (--set)
    - `office365.tenant_id`: found "<tenant>", expected the Directory (tenant) ID or a domain of the tenant, such as "contoso.onmicrosoft.com" (--set)
    - `office365.client_id`: found "my-app", expected the Application (client) ID of the app registration, such as "58d827e0-c69c-401f-8deb-b1224d129dc8" (--set)
    - `office365.client_id`: found "00000000-0000-0000-0000-000000000000", expected the Application (client) ID of the app registration, such as "58d827e0-c69c-401f-8deb-b1224d129dc8" (--set)
    - `office365.client_secret`: it is still a placeholder; paste the Value column of the app's client secret (--set)
    - `office365.mailbox`: found "relay", expected an e-mail address such as "relay@contoso.com", or "sender" (--set)
    - `office365.default_mailbox`: required while `mailbox` is "sender": the mailbox for messages with a null reverse-path, which name no sender (--set)
    - `office365.login_url`: found "http://login.example", expected an https URL such as "https://login.microsoftonline.com" (--set)
    - `office365.login_url`: found text that may hold a secret (not shown), expected an https URL such as "https://login.microsoftonline.com" (--set)
    - `office365.scope`: found "openid", expected one URL that ends in `/.default`, such as "https://outlook.office365.com/.default" (--set)
    - `office365.smtp_host`: found "smtp.example:587", expected a host name or an IP address, without a port (--set)
    - `office365.smtp_port`: found "0", expected a whole number from 1 to 65535 (--set)
    - `office365.pace`: found "fast", expected one of "steady", "unlimited" (--set)
    - `office365.ehlo_name`: found "my_host", expected a host name such as "mail.contoso.com" (--set)
    - `office365.idle_close`: found "30", expected a duration with its unit from 1s to 1h, such as "90s" or "1h 30m" (--set)
    - `office365.ca_file`: could not read CA certificates from /nonexistent.pem: No such file or directory (os error 2); name a file with the authority's certificate as PEM text (--set)
    - `sender.allow`: found "contoso.com" in the list, expected `*@domain`, `local@domain` or `*` (--set)
    - `listener.addresses`: found "localhost:25" in the list, expected an IP address with a port, such as "127.0.0.1:25", `unix:` and the absolute path of a socket, or "systemd" (--set)
    - `listener.addresses`: found an empty list, expected at least an IP address with a port, such as "127.0.0.1:25", `unix:` and the absolute path of a socket, or "systemd" (--set)
    - `listener.max_message_size`: found "35 potatoes", expected a size from 1KiB to 1GiB, such as "35MiB", or octets (--set)
    - `http.address`: found "9587", expected an IP address with a port, such as "127.0.0.1:9587", or "off" (--set)
    - `log.format`: found "syslog", expected one of "text", "json", "journald" (--set)
    "#);
}

#[test]
fn a_listener_that_others_reach_needs_an_allow() {
    let open = "[listener]\naddresses = [\"127.0.0.1:25\", \"0.0.0.0:2525\"]\n";
    insta::assert_snapshot!(with(open).faults(), @r#"
    - `listener.addresses`: other hosts can reach 0.0.0.0:2525, and nothing says which of them may send; set `listener.allow`, such as ["127.0.0.0/8", "::1/128", "10.1.2.0/24"] (config.toml:8)
    "#);
    let config = with(&format!("{open}allow = [\"10.0.0.0/8\"]\n")).load();
    assert_eq!(config.listeners[0].addresses.len(), 2);
    let config = with(&format!("{open}allow = [\"0.0.0.0/0\"]\n")).load();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
}

#[test]
fn a_secret_file_must_be_of_use_now() {
    let text = REQUIRED.replace(&format!("client_secret = \"{SECRET}\""), "");
    let with_file = |content: Option<&str>| {
        let bench = Bench::new(&text);
        let path = match content {
            Some(content) => bench.write("secret", content),
            None => bench.directory.path().join("secret"),
        };
        bench.set(&format!("office365.client_secret_file={}", path.display()))
    };
    let mut out = String::new();
    for content in [None, Some(""), Some("\n"), Some("<secret>"), Some("two\nlines")] {
        out.push_str(&with_file(content).faults());
        out.push('\n');
    }
    insta::assert_snapshot!(out, @r#"
    - `office365.client_secret_file`: could not read secret: No such file or directory (os error 2); put the client secret's Value there, or name its file (--set)
    - `office365.client_secret_file`: secret holds no secret: it is empty; paste the Value column of the app's client secret (--set)
    - `office365.client_secret_file`: secret holds no secret: it is empty; paste the Value column of the app's client secret (--set)
    - `office365.client_secret_file`: secret holds no secret: it is still a placeholder; paste the Value column of the app's client secret (--set)
    - `office365.client_secret_file`: secret holds no secret: it has a line end or another control character within; paste the Value column of the app's client secret (--set)
    "#);
    let by_id = with_file(Some("58d827e0-c69c-401f-8deb-b1224d129dc8\n")).load();
    assert!(by_id.warnings[0].contains("looks like the secret's id"), "{:?}", by_id.warnings);

    let both = with_file(Some(SECRET)).variable("O365_RELAY__OFFICE365__CLIENT_SECRET", SECRET);
    insta::assert_snapshot!(both.faults(), @r#"
    - `office365.client_secret`: set together with `client_secret_file` (--set); keep one of them (environment variable O365_RELAY__OFFICE365__CLIENT_SECRET)
    "#);
}

#[test]
fn what_is_allowed_and_looks_wrong_is_a_warning() {
    let bench = with("messages_per_minute = 5\n")
        .set("office365.pace=unlimited")
        .variable("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")
        .set("office365.client_secret=58d827e0-c69c-401f-8deb-b1224d129dc8");
    let config = bench.load();
    assert_eq!(config.queue.routes[0].lane.pace, Pace::Unlimited);
    let warnings = config.warnings.join("\n");
    let directory = format!("{}/", bench.directory.path().display());
    insta::assert_snapshot!(warnings.replace(&directory, ""), @r#"
    `office365.client_secret`: this looks like the secret's id; paste the Value column, which is shown only once (--set)
    `office365.client_secret`: every user of this host can read it in the list of processes (--set)
    `office365.messages_per_minute`: has no effect while `pace` is "unlimited" (config.toml:7)
    `office365.login_url`: https://login.microsoftonline.us belongs to cloud "gcc-high", but `cloud` is "global" (environment variable AZURE_AUTHORITY_HOST)
    "#);
}

#[test]
fn no_output_holds_a_secret() {
    let bench = with("");
    let (config, settings) = bench.load_all().unwrap();
    let rows = render::rows(&settings);
    let outputs = format!("{config:?} {:?} {rows:?}", bench.sources);
    assert!(!outputs.contains(SECRET) && outputs.contains("********"), "{outputs}");

    let file = |line: &str| Bench::new(&format!("[office365]\n{line}\n"));
    let quoted = format!("\"{SECRET}\"");
    let cases = [
        file(&format!("client_secret = [{quoted}]")),
        file(&format!("client_secret = {SECRET}")),
        file(&format!("client_secret = {quoted}x")),
        file(&format!("client_secret = \"{SECRET}")),
        file(&format!("client_secret = \"{SECRET}\\q\"")),
        file(&format!("client_secret = \"{SECRET}\\u0007\"")),
        file(&format!("client_secret {quoted}")),
        file(&format!("client_secrt = {quoted}")),
        file(&format!("client_id = {quoted}")),
        file(&format!("client_secret.value = {quoted}")),
        file(&format!("cloud = [{quoted}]")),
        file(&format!("client_secret_file = {quoted}")),
        file(&format!("ca_file = {quoted}")),
        Bench::new(&format!("client_secret = {quoted}")),
        Bench::new(SECRET),
        with("").set(SECRET),
        with("").set(&format!("office365.client_secret:{SECRET}")),
        with("").set(&format!("{SECRET}=x")),
        with("").set(&format!("listener.allow={SECRET}")),
        with("").variable("O365_RELAY__OFFICE365__CLIENT_SECRT", SECRET),
        with("").variable("O365_RELAY__OFFICE365__CLIENT_SECRET", &format!("{SECRET}\u{7}")),
        file(&format!("client_secret = {quoted}\nclient_secret_file = \"/none\"")),
    ];
    for bench in cases {
        let faults = bench.load_all().map(drop).unwrap_err();
        let outputs = format!("{faults} {faults:?}");
        assert!(!outputs.contains(&SECRET[..12]), "{outputs}");
    }
    let number = file("client_secret = 1234567890");
    assert!(number.faults().contains("`office365.client_secret`: found a number, expected text"));
    assert!(!number.faults().contains("1234567890"));
}
