//! At a terminal: what `setup` asks, what it makes of wrong answers, Ctrl-C and the run after it;
//! colours of the doctor. A pseudo-terminal stands in, with the program as its session.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use o365_relay::sandbox::{Config, ExchangeAdmin, Sandbox};
use operator::{BINARY, PATIENCE, o365_relay};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;
use tokio::time::Instant;

const MAILBOX: &str = "relay@sandbox.example";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

/// A program at a terminal.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    /// How far the screen has been looked at.
    seen: usize,
    program: Child,
}

impl Terminal {
    /// Starts the relay's binary as the leader of a session with this terminal, so that Ctrl-C is
    /// a signal.
    fn start(arguments: &[String], environment: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let keyboard = File::from(master);
        let open = || Stdio::from(File::options().read(true).write(true).open(&name).unwrap());
        // Whoever runs the tests in the background may have them ignore Ctrl-C.
        let program = Command::new("env")
            .args(["--default-signal=INT", "setsid", "--ctty", BINARY])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(environment.iter().copied())
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut reader, shown) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut octets = [0; 4096];
            // An error is how a terminal ends that nobody has open any more.
            while let Ok(length @ 1..) = reader.read(&mut octets) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&octets[..length]));
            }
        });
        Self { keyboard, screen, seen: 0, program }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Waits until this is on the screen, behind what was waited for before.
    fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if let Some(at) = screen[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(Instant::now() < deadline, "no {text:?} behind {:?}", &screen[self.seen..]);
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    fn answers(&mut self, question: &str, answer: &str) {
        self.shows(question);
        self.types(&format!("{answer}\n"));
    }

    /// The exit code; `None` if a signal was its end.
    fn ends(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.screen());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// A fake tenant, and an empty directory on the host of the relay.
struct Place {
    sandbox: Sandbox,
    root: TempDir,
}

impl Place {
    async fn new() -> Self {
        let config = Config {
            exchange: ExchangeAdmin::Auto,
            device_interval: Duration::ZERO,
            ..Config::default()
        };
        let sandbox = Sandbox::start(config).await.unwrap();
        let root = TempDir::new().unwrap();
        fs::write(root.path().join("ca.pem"), sandbox.ca_pem()).unwrap();
        Self { sandbox, root }
    }

    fn config(&self) -> PathBuf {
        self.root.path().join("etc/config.toml")
    }

    fn setup(&self, more: &[&str]) -> Terminal {
        let url = self.sandbox.login_url();
        let port = self.sandbox.smtp_address().port().to_string();
        let (config, ca) = (self.config(), self.root.path().join("ca.pem"));
        let mut arguments: Vec<String> = ["setup", "--config", config.to_str().unwrap()]
            .into_iter()
            .chain(["--login-url", &url, "--graph-url", &url, "--smtp-host", "localhost"])
            .chain(["--smtp-port", &port, "--ca-file", ca.to_str().unwrap()])
            .map(str::to_owned)
            .collect();
        arguments.extend(more.iter().map(ToString::to_string));
        Terminal::start(&arguments, &[])
    }

    fn count(&self, what: &str) -> usize {
        self.sandbox.directory().iter().filter(|line| line.starts_with(what)).count()
    }
}

const TENANT: &str = "Tenant (a domain such as contoso.onmicrosoft.com, or its ID): ";
const WHICH_MAILBOX: &str = "Mailbox to send from (such as relay@contoso.com): ";
const GO_ON: &str = "Go on? [Y/n] ";

#[tokio::test(flavor = "multi_thread")]
async fn setup_asks_again_until_an_answer_will_do_and_shows_no_secret() {
    let place = Place::new().await;
    let mut terminal = place.setup(&["--credential", "secret"]);
    for wrong in ["", "no tenant!", "https://contoso.com", "\u{1b}[31m"] {
        terminal.answers(TENANT, wrong);
        terminal.shows("That is neither a domain nor an ID.");
    }
    terminal.answers(TENANT, "  sandbox.example ");
    for wrong in ["", "nobody", "a@", "a b@c.example"] {
        terminal.answers(WHICH_MAILBOX, wrong);
        terminal.shows("That is no address.");
    }
    terminal.answers(WHICH_MAILBOX, MAILBOX);
    terminal.shows("In tenant sandbox.example an application");
    // Neither yes nor no is no reason to begin.
    terminal.answers(GO_ON, "perhaps");
    terminal.answers(GO_ON, "yes");
    terminal.shows("microsoft.com/devicelogin");
    terminal.shows("mail can go");
    assert_eq!(terminal.ends(), Some(0));
    let secret = fs::read_to_string(place.config().with_file_name("client_secret")).unwrap();
    let screen = terminal.screen();
    assert!(secret.trim().len() > 20 && !screen.contains(secret.trim()), "{screen}");
    assert!(!screen.contains("eyJ"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_no_or_hangs_up_has_done_nothing() {
    let place = Place::new().await;
    for answer in ["n\n", CTRL_D, CTRL_C] {
        let mut terminal = place.setup(&[]);
        terminal.answers(TENANT, "sandbox.example");
        terminal.answers(WHICH_MAILBOX, MAILBOX);
        terminal.shows(GO_ON);
        terminal.types(answer);
        let expected = if answer == CTRL_C { None } else { Some(64) };
        assert_eq!(terminal.ends(), expected, "{answer:?}: {}", terminal.screen());
        if expected.is_some() {
            terminal.shows("nothing was done");
        }
        assert_eq!(place.sandbox.directory(), [""; 0]);
        assert!(!place.config().exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_ctrl_c_the_next_run_asks_only_whether_to_go_on_and_makes_nothing_twice() {
    let place = Place::new().await;
    // The service principal does not come about: setup waits for it.
    place.sandbox.set_fault("graph-lag".parse().unwrap());
    let mut terminal = place.setup(&[]);
    terminal.answers(TENANT, "sandbox.example");
    terminal.answers(WHICH_MAILBOX, MAILBOX);
    terminal.answers(GO_ON, "");
    let deadline = Instant::now() + PATIENCE;
    while place.sandbox.faults().iter().all(|fault| fault.struck < 2) {
        assert!(Instant::now() < deadline, "{}", terminal.screen());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    terminal.types(CTRL_C);
    assert_eq!(terminal.ends(), None, "{}", terminal.screen());
    assert_eq!(place.count("application"), 1);

    place.sandbox.clear_faults();
    let mut terminal = place.setup(&[]);
    terminal.answers(GO_ON, "y");
    terminal.shows("mail can go");
    assert_eq!(terminal.ends(), Some(0));
    let screen = terminal.screen();
    assert!(!screen.contains(TENANT) && !screen.contains(WHICH_MAILBOX), "{screen}");
    assert_eq!((place.count("application"), place.count("service principal")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_has_colours_at_a_terminal_that_shows_them_and_nowhere_else() {
    let place = Place::new().await;
    let ca = place.root.path().join("ca.pem");
    let config = place.root.path().join("config.toml");
    let queue = place.root.path().join("queue");
    fs::write(
        &config,
        format!(
            "{}[queue]\ndirectory = {:?}\n[http]\naddress = \"off\"\n\
             [listener]\naddresses = [\"127.0.0.1:1\"]\n",
            place.sandbox.relay_config(&ca),
            queue.display().to_string()
        ),
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let arguments = ["doctor", "--config", config].map(str::to_owned);
    for (environment, coloured) in [
        (&[("TERM", "xterm")][..], true),
        (&[], true),
        (&[("NO_COLOR", "1")], false),
        (&[("NO_COLOR", ""), ("TERM", "xterm")], true),
        (&[("TERM", "dumb")], false),
    ] {
        let mut terminal = Terminal::start(&arguments, environment);
        terminal.shows("configuration: no faults");
        terminal.ends();
        terminal.shows("mail");
        let screen = terminal.screen();
        assert_eq!(screen.contains("\u{1b}[32mgreen"), coloured, "{environment:?}: {screen}");
        assert_eq!(screen.contains('\u{1b}'), coloured, "{environment:?}: {screen}");
    }
    let told = tokio::task::spawn_blocking({
        let config = config.to_owned();
        move || operator::tell(&mut o365_relay(["doctor", "--config", &config]))
    })
    .await
    .unwrap();
    assert!(told.out.contains("green  configuration") && !told.out.contains('\u{1b}'), "{told:?}");
}
