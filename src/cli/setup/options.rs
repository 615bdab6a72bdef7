//! The options of `setup`, and what they come to: an earlier run's record fills what is not said.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use lettre::Address;

use crate::{
    cli::{Settings, exit::Failure},
    config,
    office365::{
        clouds::Cloud,
        exchange::{Access, Former, Group, Path},
    },
    setup::{CredentialKind, Plan, Record},
    tls,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Files go beside the configuration file (--config). What has been done is on record there: run the \
same command again to go on, --undo to take everything back.")]
pub(in crate::cli) struct Options {
    /// The tenant: its Directory (tenant) ID or one of its domains
    #[arg(long, value_name = "ID|DOMAIN")]
    tenant: Option<String>,
    /// The mailbox to log in as
    #[arg(long, value_name = "ADDRESS")]
    mailbox: Option<Address>,
    /// A further address that may stand in From (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    send_as: Vec<Address>,
    /// How the application gets at the mailbox [default: applications]
    #[arg(long, value_name = "PATH", value_enum)]
    path: Option<PathKind>,
    /// A mail-enabled group whose direct members the application may submit as [default: the
    /// script makes one]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// What the application is called [default: o365-relay]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Microsoft's cloud: global (GCC too), gcc-high, dod, china, hve [default: global]
    #[arg(long, value_name = "CLOUD", value_parser = cloud)]
    cloud: Option<Cloud>,
    /// What the application proves itself with [default: certificate]
    #[arg(long, value_name = "KIND", value_enum)]
    credential: Option<Credential>,
    /// How many days a new credential is good [default: 730]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub(super) days: Option<u16>,
    /// Make a new credential beside the old one now; without this, when 30 days are left
    #[arg(long, conflicts_with_all = ["undo", "print_only", "existing_key"])]
    renew: bool,
    /// Use the certificate.pem and `private_key.pem` that lie beside the configuration already
    #[arg(long)]
    existing_key: bool,
    /// Keep looking until mail can go, for this long, such as 2h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) wait: Option<Duration>,
    /// Send a first message to this address when mail can go
    #[arg(long, value_name = "ADDRESS")]
    pub(super) send_to: Option<Address>,
    /// Sign in nowhere and write nothing: print the way through the portal, and the script
    #[arg(long, conflicts_with_all = ["undo", "wait", "send_to"])]
    pub(super) print_only: bool,
    /// With --print-only: Application (client) ID
    #[arg(long, value_name = "ID", requires = "print_only")]
    client_id: Option<String>,
    /// With --print-only: Object ID under Enterprise applications
    #[arg(long, value_name = "ID", requires = "print_only")]
    object_id: Option<String>,
    /// Take back everything that setup has made
    #[arg(long, conflicts_with_all = ["wait", "send_to"])]
    pub(super) undo: bool,
    /// Look at the tenant (with a sign-in) even if everything is on record
    #[arg(long)]
    verify: bool,
    /// Replace files that setup did not write
    #[arg(long)]
    overwrite: bool,
    /// Ask nothing
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Leave the credential to root and systemd's `LoadCredential=` [default: for root, with the
    /// default configuration file and without --owner]
    #[arg(long, conflicts_with = "owner")]
    systemd: bool,
    /// Who shall own key and secret: a user of this host
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    #[command(flatten)]
    places: Places,
}

/// Where things are, if not where the cloud has them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where things are")]
struct Places {
    /// The public client that the admin signs in to [default: Microsoft Graph Command Line Tools]
    #[arg(long, value_name = "ID")]
    sign_in_client_id: Option<String>,
    /// Where to sign in [default: that of the cloud]
    #[arg(long, value_name = "URL", value_parser = https)]
    login_url: Option<String>,
    /// Where Microsoft Graph is [default: that of the cloud]
    #[arg(long, value_name = "URL", value_parser = https)]
    graph_url: Option<String>,
    /// The submission host [default: that of the cloud]
    #[arg(long, value_name = "HOST")]
    smtp_host: Option<String>,
    /// The submission port [default: that of the cloud]
    #[arg(long, value_name = "PORT")]
    smtp_port: Option<u16>,
    /// CA certificates (PEM) to trust besides the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PathKind {
    /// RBAC for Applications: one role for one group, no consent, no right to read mail
    Applications,
    /// The API permission SMTP.SendAsApp with consent, and full access to the mailbox
    Classic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Credential {
    /// A key and a certificate made here; the key never leaves this host
    Certificate,
    /// A client secret
    Secret,
}

/// What the options and the record come to.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub tenant: Option<String>,
    pub mailbox: Option<String>,
    pub credential: CredentialKind,
    plan: Plan,
    ids: (Option<String>, Option<String>),
}

/// In the place of ids that are not known.
pub(super) const APPLICATION_ID: &str = "APPLICATION (CLIENT) ID";
pub(super) const OBJECT_ID: &str = "OBJECT ID UNDER ENTERPRISE APPLICATIONS";

/// Whether the ids are real ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    Given,
    Missing,
}

impl Wanted {
    pub fn new(options: &Options, settings: &Settings) -> Result<Self, Failure> {
        let sources = settings.sources();
        let named = sources.environment.get("O365_RELAY_CONFIG").filter(|name| !name.is_empty());
        let config = sources.file.clone().or_else(|| named.map(PathBuf::from));
        let config = config.unwrap_or_else(|| config::DEFAULT_FILE.into());
        let record = if options.print_only { None } else { Record::load(&config)? };
        let record = record.as_ref();
        let tenant = options.tenant.clone().or_else(|| record.map(|one| one.tenant.clone()));
        let mailbox = options.mailbox.as_ref().map(ToString::to_string);
        let mailbox = mailbox.or_else(|| record.map(|one| one.mailbox.clone()));
        let credential = match options.credential {
            Some(Credential::Certificate) => CredentialKind::Certificate,
            Some(Credential::Secret) => CredentialKind::Secret,
            None => record.map(Record::credential).unwrap_or_default(),
        };
        let plan = plan(options, record, config, credential)?;
        let ids = (options.client_id.clone(), options.object_id.clone());
        for (what, id) in [("--client-id", &ids.0), ("--object-id", &ids.1)] {
            if id.as_deref().is_some_and(|id| !is_guid(id)) {
                return Err(Failure::usage(format!(
                    "{what} is not an id such as 58d827e0-c69c-401f-8deb-b1224d129dc8"
                )));
            }
        }
        if ids.0.is_some() && ids.0 == ids.1 {
            return Err(Failure::usage(
                "--client-id and --object-id are the same; the Object ID stands under Enterprise \
                 applications > (the application)",
            ));
        }
        Ok(Self { tenant, mailbox, credential, plan, ids })
    }

    /// What is missing is named in one go.
    fn complete(&self) -> Result<(String, String), Failure> {
        match (&self.tenant, &self.mailbox) {
            (Some(tenant), Some(mailbox)) => Ok((checked_tenant(tenant)?, mailbox.clone())),
            (tenant, mailbox) => {
                let missing = [
                    tenant.is_none().then_some("--tenant contoso.onmicrosoft.com"),
                    mailbox.is_none().then_some("--mailbox relay@contoso.com"),
                ];
                let missing: Vec<_> = missing.into_iter().flatten().collect();
                Err(Failure::usage(format!(
                    "setup has to know more; give {}",
                    missing.join(" and ")
                )))
            }
        }
    }

    pub fn plan(&self) -> Result<Plan, Failure> {
        let (tenant, mailbox) = self.complete()?;
        Ok(Plan { tenant, mailbox, ..self.plan.clone() })
    }

    /// For taking back: tenant and mailbox are on record.
    pub fn plan_to_undo(&self) -> Plan {
        self.plan.clone()
    }

    /// What Exchange would have to be told.
    pub fn access(&self) -> Result<(Access, Ids), Failure> {
        let plan = self.plan()?;
        let ids = match &self.ids {
            (Some(_), Some(_)) => Ids::Given,
            _ => Ids::Missing,
        };
        let (client_id, object_id) = self.ids.clone();
        let access = Access {
            cloud: plan.cloud,
            tenant: plan.tenant,
            display_name: plan.name,
            client_id: client_id.unwrap_or_else(|| APPLICATION_ID.into()),
            object_id: object_id.unwrap_or_else(|| OBJECT_ID.into()),
            mailbox: plan.mailbox,
            send_as: plan.send_as,
            former: Former::default(),
            path: plan.path,
        };
        Ok((access, ids))
    }
}

/// The plan without tenant and mailbox.
fn plan(
    options: &Options,
    record: Option<&Record>,
    config: PathBuf,
    credential: CredentialKind,
) -> Result<Plan, Failure> {
    let places = places(&options.places, record)?;
    let cloud = options.cloud.or(record.map(Record::cloud)).unwrap_or(Cloud::Global);
    let ca_file = places.get("ca_file").map(PathBuf::from);
    let tls = tls::client_config(ca_file.as_deref())
        .map_err(|error| Failure::configuration(error.to_string()))?;
    let root = rustix::process::geteuid().is_root();
    let standard = config.as_path() == std::path::Path::new(config::DEFAULT_FILE);
    let send_as: Vec<String> = options.send_as.iter().map(ToString::to_string).collect();
    Ok(Plan {
        tenant: String::new(),
        mailbox: String::new(),
        cloud,
        name: given(options.name.as_ref(), record.map(|one| &one.name), "o365-relay"),
        send_as: match (send_as.is_empty(), record) {
            (true, Some(record)) => record.send_as.clone(),
            _ => send_as,
        },
        path: path(options, record)?,
        credential,
        days: options.days.or(record.and_then(|one| one.days)).unwrap_or(730),
        places,
        tls,
        config,
        systemd: options.systemd
            || record.is_some_and(|one| one.systemd)
            || (root && standard && options.owner.is_none()),
        owner: options.owner.as_deref().map(owner).transpose()?,
        overwrite: options.overwrite,
        existing_key: options.existing_key,
        verify: options.verify,
        renew: options.renew,
        patience: Duration::from_secs(60),
    })
}

/// What is said now, over what was said before.
fn places(places: &Places, record: Option<&Record>) -> Result<BTreeMap<String, String>, Failure> {
    let mut known = record.map(|one| one.places.clone()).unwrap_or_default();
    let ca_file = places.ca_file.as_ref().map(std::fs::canonicalize).transpose();
    let ca_file =
        ca_file.map_err(|error| Failure::usage(format!("--ca-file cannot be read: {error}")))?;
    for (name, value) in [
        ("sign_in_client_id", places.sign_in_client_id.clone()),
        ("login_url", places.login_url.clone()),
        ("graph_url", places.graph_url.clone()),
        ("smtp_host", places.smtp_host.clone()),
        ("smtp_port", places.smtp_port.map(|port| port.to_string())),
        ("ca_file", ca_file.map(|path| path.display().to_string())),
    ] {
        known.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(known)
}

fn given(option: Option<&String>, record: Option<&String>, default: &str) -> String {
    option.or(record).map_or_else(|| default.to_owned(), Clone::clone)
}

fn path(options: &Options, record: Option<&Record>) -> Result<Path, Failure> {
    let own = |group: &Option<String>| match group {
        Some(name) => Path::Applications(Group::Existing(name.clone())),
        None => Path::Applications(Group::Own),
    };
    match (options.path, &options.group) {
        (Some(PathKind::Classic), Some(_)) => Err(Failure::usage(
            "--group goes with --path applications; the classic path is for one mailbox",
        )),
        (Some(PathKind::Classic), None) => Ok(Path::Classic),
        (Some(PathKind::Applications) | None, group @ Some(_)) => Ok(own(group)),
        (Some(PathKind::Applications), None) => Ok(own(&record.and_then(|one| one.group.clone()))),
        (None, None) => Ok(record.map_or(Path::Applications(Group::Own), Record::path)),
    }
}

/// User and group id of a user of this host.
fn owner(name: &str) -> Result<(u32, u32), Failure> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (user, _, id, group) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (user == name || id == name).then_some((id.parse().ok()?, group.parse().ok()?))
    });
    found.ok_or_else(|| Failure::usage(format!("there is no user {name} on this host (--owner)")))
}

fn cloud(text: &str) -> Result<Cloud, String> {
    let found = Cloud::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, cloud)| *cloud).ok_or_else(|| {
        let names: Vec<_> = Cloud::ALL.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

fn https(text: &str) -> Result<String, &'static str> {
    let url: hyper::Uri = text.parse().map_err(|_| "no URL")?;
    match url.scheme_str() == Some("https") && !text.contains(['@', '?', '#']) {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("not an https URL such as https://login.microsoftonline.com"),
    }
}

/// A directory id or a domain: it becomes a part of a URL.
pub(super) fn checked_tenant(text: &str) -> Result<String, Failure> {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let text = text.trim();
    if text.chars().all(sound) && (text.contains('.') || is_guid(text)) {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(format!(
        "--tenant {text:?} is neither a Directory (tenant) ID nor a domain such as \
         contoso.onmicrosoft.com"
    )))
}

fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}
