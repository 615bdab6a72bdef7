//! What an operator does, for tests: the real binary with an empty environment, the fake tenant
//! as its upstream, signals, and what they print.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;

pub const BINARY: &str = env!("CARGO_BIN_EXE_o365-relay");

/// A client secret that nothing may ever print.
pub const SECRET: &str = "N3verShown~aB8Q.4711-geheim";

/// Nothing that a test waits for takes as long.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The binary with these arguments and no environment.
pub fn o365_relay<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

/// `doctor` with this configuration and queue, where no relay runs that could be asked.
pub fn doctor(config: &Path, queue: &Path) -> Command {
    let mut command = o365_relay(["doctor", "--config"]);
    command.arg(config);
    let queue = queue.display().to_string();
    for (key, value) in [
        ("listener.addresses", "127.0.0.1:0"),
        ("http.address", "off"),
        ("queue.min_free_bytes", "0"),
        ("queue.directory", queue.as_str()),
    ] {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Told {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end, which must come within [`PATIENCE`].
pub fn tell(command: &mut Command) -> Told {
    let output = assert_cmd::Command::from_std(clone(command)).timeout(PATIENCE).output().unwrap();
    let told = Told {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert_no_leak(&told.out);
    assert_no_leak(&told.err);
    told
}

fn clone(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.env_clear().args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            copy.env(name, value);
        }
    }
    copy
}

fn assert_no_leak(text: &str) {
    assert!(!text.contains(SECRET), "the secret is shown: {text}");
    assert!(!text.contains("panicked") && !text.contains("fault of o365-relay itself"), "{text}");
    assert!(!text.contains("Caused by"), "{text}");
}

impl Told {
    /// One message on standard error with this code and all these words, the first of them not
    /// twice.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {self:#?}");
        }
        assert_eq!(self.err.matches(words[0]).count(), 1, "not once: {self:#?}");
        assert!(self.out.is_empty(), "{self:#?}");
    }

    /// Success with all these words on standard output, and silence on standard error.
    #[track_caller]
    pub fn succeeds(&self, words: &[&str]) {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:#?}");
        for word in words {
            assert!(self.out.contains(word), "no {word:?} in {self:#?}");
        }
    }
}

/// Asks until there is an answer.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A temporary directory with a configuration that is good and leads nowhere: its upstream is
/// a port on which nothing listens.
pub struct Place {
    pub root: TempDir,
    pub config: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        let ca = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (ca_file, queue) = (root.path().join("ca.pem"), root.path().join("queue"));
        fs::write(&ca_file, ca.cert.pem()).unwrap();
        let config = root.path().join("config.toml");
        let text = format!(
            "[office365]\n\
             tenant_id = \"contoso.example\"\n\
             client_id = \"58d827e0-c69c-401f-8deb-b1224d129dc8\"\n\
             client_secret = \"{SECRET}\"\n\
             mailbox = \"relay@contoso.example\"\n\
             login_url = \"https://localhost:1\"\n\
             smtp_host = \"localhost\"\n\
             smtp_port = 1\n\
             ca_file = \"{}\"\n\
             [listener]\n\
             addresses = [\"127.0.0.1:0\"]\n\
             [http]\n\
             address = \"127.0.0.1:0\"\n\
             [queue]\n\
             directory = \"{}\"\n\
             ephemeral = true\n\
             min_free_bytes = 0\n",
            ca_file.display(),
            queue.display()
        );
        fs::write(&config, text).unwrap();
        Self { root, config }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `--config` of this place, then these arguments.
    pub fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = o365_relay(["--config"]);
        command.arg(&self.config).args(arguments);
        command
    }

    /// A relay with this configuration.
    pub fn start<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Relay {
        Relay::start(self.command(arguments).arg("run"))
    }
}

/// A process that does not outlive its test, and what it writes.
pub struct Process {
    child: Child,
    text: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts it and reads its standard error, or its standard output if it is asked for.
    pub fn start(command: &mut Command, output: bool) -> Self {
        let (to_out, to_err) = if output {
            (Stdio::piped(), Stdio::inherit())
        } else {
            (Stdio::null(), Stdio::piped())
        };
        Self::watch(command.stdout(to_out).stderr(to_err).spawn().unwrap())
    }

    /// One that has been started; reads what is piped.
    pub fn watch(mut child: Child) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let reader = match (child.stdout.take(), child.stderr.take()) {
            (Some(pipe), _) => Some(collect(pipe, Arc::clone(&text))),
            (_, Some(pipe)) => Some(collect(pipe, Arc::clone(&text))),
            _ => None,
        };
        Self { child, text, reader }
    }

    /// All it has written so far.
    pub fn text(&self) -> String {
        let text = self.text.lock().unwrap().clone();
        assert_no_leak(&text);
        text
    }

    /// The first line with these words, once it is there.
    #[track_caller]
    pub fn line_with(&self, words: &str) -> String {
        wait_for(&format!("{words:?}"), || {
            self.text().lines().find(|line| line.contains(words)).map(str::to_owned)
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn terminate(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// How it ended, once it has; all that it wrote has been read then.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let status = wait_for("the end of the process", || self.child.try_wait().unwrap());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(
    pipe: impl std::io::Read + Send + 'static,
    text: Arc<Mutex<String>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = text.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    })
}

/// A relay that has started.
pub struct Relay {
    pub process: Process,
    pub smtp: SocketAddr,
    pub http: SocketAddr,
}

impl Relay {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let process = Process::start(command, false);
        let line = process.line_with("relay started");
        let address = |start: &str, end: char| {
            let rest = line.split_once(start).unwrap().1;
            rest.split(end).next().unwrap().parse().unwrap()
        };
        let (smtp, http) = (address("listening=[", ']'), address("http=", ' '));
        Self { process, smtp, http }
    }

    /// `status` or `health`, asked at this relay.
    pub fn ask(&self, arguments: &[&str]) -> Told {
        tell(o365_relay(arguments.iter().copied()).arg("--address").arg(self.http.to_string()))
    }

    /// A message through `send`.
    pub fn send(&self) -> Told {
        let relay = self.smtp.to_string();
        let from = "relay@sandbox.example";
        tell(&mut o365_relay([
            "send",
            "--from",
            from,
            "--to",
            "somebody@example.com",
            "--relay",
            &relay,
        ]))
    }

    /// SIGTERM, and a quick end with success.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.process.terminate();
        let code = self.process.ended().code();
        assert_eq!(code, Some(0), "{}", self.process.text());
        self.process.text()
    }
}

/// `sandbox --only`.
pub struct Tenant {
    pub process: Process,
    pub root: TempDir,
}

impl Tenant {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these arguments besides.
    pub fn start_with(arguments: &[&str]) -> Self {
        let root = TempDir::new().unwrap();
        let mut command = o365_relay(["sandbox", "--only"].iter().chain(arguments).copied());
        command.arg("--directory");
        command.arg(root.path().join("tenant")).arg("--save").arg(root.path().join("saved"));
        let process = Process::start(&mut command, true);
        let tenant = Self { process, root };
        wait_for("the tenant's configuration", || tenant.config().exists().then_some(()));
        tenant
    }

    pub fn config(&self) -> PathBuf {
        self.root.path().join("tenant/office365.toml")
    }

    /// A key of the configuration that it wrote.
    pub fn key(&self, name: &str) -> String {
        let text = fs::read_to_string(self.config()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        line.unwrap().trim_matches('"').to_owned()
    }

    /// A relay in front of it, with its queue in `queue`.
    #[track_caller]
    pub fn relay<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Relay {
        Relay::start(&mut self.relay_command(arguments))
    }

    pub fn relay_command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = o365_relay(["run", "--config"]);
        command.arg(self.config());
        for (key, value) in [
            ("listener.addresses", "127.0.0.1:0"),
            ("http.address", "127.0.0.1:0"),
            ("queue.min_free_bytes", "0"),
            ("queue.ephemeral", "true"), // CI may run in a container
            ("queue.directory", &self.root.path().join("queue").display().to_string()),
        ] {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(arguments);
        command
    }

    /// Names of the messages that arrived.
    pub fn arrived(&self) -> Vec<PathBuf> {
        let saved = fs::read_dir(self.root.path().join("saved")).unwrap();
        let paths = saved.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
    }
}

/// The mode bits of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
