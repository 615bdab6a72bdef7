//! Options of `sandbox` that say what the fake tenant is like and what goes wrong in it.

use std::{io, net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};
use lettre::Address;

use crate::{
    cli::{exit::Failure, output::line, storyline::Storyline},
    sandbox::{Config, ExchangeAdmin, Fault, Sandbox, SendAs, fault_kinds},
};

#[derive(Debug, Args)]
pub(super) struct TenantOptions {
    /// Make this go wrong, such as throttle*3 or slow-dot=5s (may be repeated)
    #[arg(long, value_name = "NAME[=PARAMETER][*TIMES][~PERCENT%]", help_heading = FAULTS)]
    fault: Vec<Fault>,
    /// Print every fault there is, and end
    #[arg(long, help_heading = FAULTS)]
    pub list_faults: bool,
    /// Decides when faults with ~PERCENT% strike: the same number, the same order
    #[arg(long, value_name = "NUMBER", default_value_t = 0, help_heading = FAULTS)]
    fault_seed: u64,
    /// Take HTTP requests here that set faults and list arrivals (anybody who can reach it may)
    #[arg(long, value_name = "ADDRESS", help_heading = FAULTS)]
    control: Option<SocketAddr>,
    /// A mailbox of the fake tenant (may be repeated) [default: relay@sandbox.example]
    #[arg(long, value_name = "ADDRESS", help_heading = TENANT)]
    mailbox: Vec<Address>,
    /// What may stand in From besides the mailbox: anyone, mailbox for nothing else, or an address
    /// (may be repeated)
    #[arg(long, value_name = "anyone|mailbox|ADDRESS", help_heading = TENANT)]
    send_as: Vec<MaySendAs>,
    /// How long an access token is good, such as 5m [default: 3599s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration,
          help_heading = TENANT)]
    token_lifetime: Option<Duration>,
    /// Connections that may submit for one mailbox at a time [default: 3]
    #[arg(long, value_name = "NUMBER|unlimited", help_heading = TENANT)]
    max_connections: Option<Connections>,
    /// Who tells Exchange of an application that setup registers: script for somebody who posts
    /// the script to the control endpoint, auto for nobody has to
    #[arg(long, value_name = "script|auto", value_enum, default_value = "script",
          help_heading = TENANT)]
    exchange: Exchange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Exchange {
    Script,
    Auto,
}

const FAULTS: &str = "Faults";
const TENANT: &str = "Tenant";

/// One value of `--send-as`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MaySendAs {
    Anyone,
    Mailbox,
    Address(String),
}

impl std::str::FromStr for MaySendAs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "anyone" => Ok(Self::Anyone),
            "mailbox" => Ok(Self::Mailbox),
            address => match address.parse::<Address>() {
                Ok(address) => Ok(Self::Address(address.to_string())),
                Err(_) => Err("neither anyone, nor mailbox, nor an address".into()),
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connections {
    AtMost(usize),
    Unlimited,
}

impl std::str::FromStr for Connections {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            number => {
                number.parse().map(Self::AtMost).map_err(|_| "neither a number nor unlimited")
            }
        }
    }
}

impl TenantOptions {
    /// Changes `config` as far as the options say something else.
    pub fn apply(&self, mut config: Config) -> Result<Config, Failure> {
        for (at, fault) in self.fault.iter().enumerate() {
            if self.fault[..at].iter().any(|earlier| earlier.name() == fault.name()) {
                let text = format!("--fault {} is given twice, the last as {fault}", fault.name());
                return Err(Failure::usage(text));
            }
        }
        config.faults.clone_from(&self.fault);
        config.fault_seed = self.fault_seed;
        config.control_address = self.control;
        config.exchange = match self.exchange {
            Exchange::Script => ExchangeAdmin::Script,
            Exchange::Auto => ExchangeAdmin::Auto,
        };
        if !self.mailbox.is_empty() {
            config.mailboxes = self.mailbox.iter().map(ToString::to_string).collect();
        }
        config.send_as = self.send_as(config.send_as)?;
        if let Some(lifetime) = self.token_lifetime {
            config.token_lifetime = lifetime;
        }
        match self.max_connections {
            Some(Connections::AtMost(most)) => config.max_connections = Some(most),
            Some(Connections::Unlimited) => config.max_connections = None,
            None => {}
        }
        Ok(config)
    }

    fn send_as(&self, default: SendAs) -> Result<SendAs, Failure> {
        let addresses: Vec<String> = self
            .send_as
            .iter()
            .filter_map(|may| match may {
                MaySendAs::Address(address) => Some(address.clone()),
                _ => None,
            })
            .collect();
        match self.send_as.as_slice() {
            [] => Ok(default),
            [MaySendAs::Anyone] => Ok(SendAs::Anyone),
            [MaySendAs::Mailbox] => Ok(SendAs::OnlyMailbox),
            all if all.len() == addresses.len() => Ok(SendAs::Listed(addresses)),
            _ => Err(Failure::usage("--send-as anyone and --send-as mailbox stand alone")),
        }
    }
}

/// Tells what has been set up to go wrong, and where to change that.
pub(super) fn tell_faults(sandbox: &Sandbox, story: &Storyline) -> io::Result<()> {
    let faults: Vec<String> =
        sandbox.faults().iter().map(|state| state.fault.to_string()).collect();
    if !faults.is_empty() {
        let seed = sandbox.config().fault_seed;
        story.tell("sandbox", &format!("faults: {} (seed {seed})", faults.join(" ")))?;
    }
    if let Some(address) = sandbox.control_address() {
        story.tell(
            "sandbox",
            &format!("control: http://{address}/faults, /arrivals, /directory, /exchange"),
        )?;
    }
    Ok(())
}

/// One paragraph for each fault.
pub(super) fn list_faults() -> io::Result<()> {
    line("NAME[=PARAMETER][*TIMES][~PERCENT%], in the order in which they strike:")?;
    for kind in fault_kinds() {
        line(format!("\n{}  (at {})\n    {}", kind.name(), kind.stage(), kind.meaning()))?;
        if let Some(reply) = kind.reply() {
            line(format!("    {reply}"))?;
        }
        if let (Some(parameter), Some(default)) = (kind.parameter(), kind.default_parameter()) {
            line(format!("    parameter: {parameter} [default: {default}]"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        tenant: TenantOptions,
    }

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let all = ["sandbox"].iter().chain(arguments);
        let cli = Cli::try_parse_from(all).map_err(|error| error.to_string())?;
        cli.tenant.apply(Config::default()).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn the_tenant_is_as_the_options_say() {
        let plain = config(&[]).unwrap();
        let default = Config::default();
        assert_eq!((plain.mailboxes, plain.send_as), (default.mailboxes, default.send_as));
        assert_eq!((plain.max_connections, plain.control_address), (Some(3), None));
        let changed = config(&[
            "--mailbox=a@x.example",
            "--mailbox=b@x.example",
            "--send-as=c@x.example",
            "--send-as=d@x.example",
            "--token-lifetime=5m",
            "--max-connections=unlimited",
            "--control=127.0.0.1:8025",
            "--fault=throttle*3",
            "--fault=slow-dot=2s",
            "--fault-seed=7",
        ])
        .unwrap();
        assert_eq!(changed.mailboxes, ["a@x.example", "b@x.example"]);
        let listed = ["c@x.example", "d@x.example"].map(String::from).to_vec();
        assert_eq!(changed.send_as, SendAs::Listed(listed));
        assert_eq!(changed.token_lifetime, Duration::from_secs(300));
        assert_eq!((changed.max_connections, changed.fault_seed), (None, 7));
        let faults: Vec<_> = changed.faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, ["throttle*3", "slow-dot=2s"]);
        assert_eq!(config(&["--send-as=mailbox"]).unwrap().send_as, SendAs::OnlyMailbox);
        assert_eq!(config(&["--max-connections=1"]).unwrap().max_connections, Some(1));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (arguments, part) in [
            (&["--fault=throtle"][..], "there is no fault \"throtle\"; the faults are "),
            (&["--fault=busy", "--fault=busy*2"], "--fault busy is given twice"),
            (&["--send-as=anyone", "--send-as=a@b.example"], "stand alone"),
            (&["--send-as=nobody"], "neither anyone, nor mailbox, nor an address"),
            (&["--mailbox=root"], "--mailbox"),
            (&["--max-connections=many"], "neither a number nor unlimited"),
            (&["--token-lifetime=5"], "--token-lifetime"),
        ] {
            let error = config(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
