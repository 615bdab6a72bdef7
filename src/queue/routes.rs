//! Whose mail goes through which mailbox: the first route that fits.
//!
//! A route leads to one mailbox, or, `by_sender`, to the mailbox of whoever sends: then there are
//! as many lanes as senders, and a lane is there only as long as it has something to do.

use std::sync::Arc;

use super::{Config, LaneConfig, Route};
use crate::{
    smtp::{
        path::{Address, ReversePath},
        sender::SenderMap,
    },
    store::Router,
};

/// Routes messages to the lanes of a configuration.
#[derive(Debug, Clone)]
pub struct Lanes {
    routes: Vec<Route>,
    map: Arc<SenderMap>,
}

impl Lanes {
    /// The lanes of `config`, which has one route at least; the last takes what no other does.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { routes: config.routes.clone(), map: Arc::clone(&config.sender.map) }
    }

    /// The lanes that are there from the start, each once.
    #[must_use]
    pub fn fixed(&self) -> Vec<LaneConfig> {
        let mut lanes: Vec<LaneConfig> = Vec::new();
        for route in self.routes.iter().filter(|route| !route.by_sender) {
            if !lanes.iter().any(|lane| lane.is_of(&route.lane.mailbox)) {
                lanes.push(route.lane.clone());
            }
        }
        lanes
    }

    /// The settings of the lane of this name, if a route leads there.
    #[must_use]
    pub fn config(&self, name: &str) -> Option<LaneConfig> {
        let fixed = |route: &&Route| !route.by_sender && route.lane.is_of(name);
        let default = |route: &&Route| route.by_sender && route.lane.is_of(name);
        let routes = || self.routes.iter();
        if let Some(route) = routes().find(fixed) {
            return Some(route.lane.clone());
        }
        let by_sender = || {
            let address = name.parse().ok()?;
            self.route(&address).filter(|route| route.by_sender)
        };
        let route = by_sender().or_else(|| routes().find(default))?;
        Some(LaneConfig { mailbox: name.to_owned(), ..route.lane.clone() })
    }

    /// A mailbox as the configuration spells it, else in lower case: one mailbox, one lane.
    fn name(&self, mailbox: &str) -> String {
        let same = |route: &&Route| route.lane.is_of(mailbox);
        let configured = self.routes.iter().find(same);
        configured.map_or_else(|| mailbox.to_lowercase(), |route| route.lane.mailbox.clone())
    }

    fn route(&self, sender: &Address) -> Option<&Route> {
        let fits = |route: &&Route| {
            route.senders.is_empty() || route.senders.iter().any(|pattern| pattern.matches(sender))
        };
        self.routes.iter().find(fits).or(self.routes.last())
    }
}

impl Router for Lanes {
    fn lane(&self, reverse_path: &ReversePath) -> String {
        let ReversePath::Address(address) = reverse_path else {
            return self
                .routes
                .last()
                .map_or_else(String::new, |route| self.name(&route.lane.mailbox));
        };
        let sender = self.map.get(address).unwrap_or(address);
        match self.route(sender) {
            Some(route) if route.by_sender => self.name(sender.as_str()),
            Some(route) => self.name(&route.lane.mailbox),
            None => String::new(),
        }
    }

    fn knows(&self, lane: &str) -> bool {
        // One that is spelt differently now is another.
        self.config(lane).is_some_and(|config| config.mailbox == lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Pace;

    fn route(senders: &[&str], mailbox: &str, by_sender: bool, account: usize) -> Route {
        let lane = LaneConfig {
            account,
            mailbox: mailbox.into(),
            max_connections: 1,
            pace: Pace::Unlimited,
            recipients_per_day: None,
        };
        let senders = senders.iter().map(|pattern| pattern.parse().unwrap()).collect();
        Route { senders, by_sender, ..Route::to(lane) }
    }

    fn lanes() -> Lanes {
        let map = SenderMap::new(vec!["*@host.local -> Alerts@Fabrikam.com".parse().unwrap()]);
        Lanes {
            routes: vec![
                route(&["*@fabrikam.com"], "Relay@fabrikam.com", false, 1),
                route(&["boss@contoso.com"], "relay@contoso.com", false, 0),
                route(&["*@tailspin.com"], "default@tailspin.com", true, 2),
                route(&[], "default@contoso.com", true, 0),
            ],
            map: Arc::new(map),
        }
    }

    fn of(sender: &str) -> String {
        lanes().lane(&match sender {
            "" => ReversePath::Null,
            address => ReversePath::Address(address.parse().unwrap()),
        })
    }

    #[test]
    fn the_first_route_that_fits_leads_to_the_lane() {
        assert_eq!(of("a@Fabrikam.com"), "Relay@fabrikam.com");
        assert_eq!(of("root@host.local"), "Relay@fabrikam.com", "routed as whom it is mapped to");
        assert_eq!(of("BOSS@contoso.com"), "relay@contoso.com");
        assert_eq!(of("Anna@Contoso.com"), "anna@contoso.com");
        assert_eq!(of("x@tailspin.com"), "x@tailspin.com");
        assert_eq!(of("Default@Contoso.com"), "default@contoso.com");
        assert_eq!(of(""), "default@contoso.com", "a null reverse-path names no mailbox");
    }

    #[test]
    fn each_lane_has_the_settings_of_its_route() {
        let account = |name: &str| lanes().config(name).map(|lane| (lane.mailbox, lane.account));
        let expected = |name: &str, account| Some((name.to_owned(), account));
        assert_eq!(account("Relay@fabrikam.com"), expected("Relay@fabrikam.com", 1));
        assert_eq!(account("x@tailspin.com"), expected("x@tailspin.com", 2));
        assert_eq!(account("default@tailspin.com"), expected("default@tailspin.com", 2));
        assert_eq!(account("anna@contoso.com"), expected("anna@contoso.com", 0));
        assert_eq!(account("relay@contoso.com"), expected("relay@contoso.com", 0));
        assert_eq!(account("other@fabrikam.com"), None, "its mail goes as relay@fabrikam.com");
        assert!(!lanes().knows("other@fabrikam.com") && !lanes().knows("no address"));
        let fixed: Vec<_> = lanes().fixed().into_iter().map(|lane| lane.mailbox).collect();
        assert_eq!(fixed, ["Relay@fabrikam.com", "relay@contoso.com"]);
    }
}
