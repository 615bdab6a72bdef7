//! What `cloud` sets: where to log in, what to ask for, where to submit, where Graph is.

use config::ValueKind;

use super::{Effective, Origin, Settings};
use crate::{
    config::keys::{Spec, office365},
    office365::clouds::Cloud,
};

impl Settings {
    /// Fills in the keys of `[office365]` that nobody has set, and those of routes whose cloud or
    /// login host is another one.
    pub(super) fn presets(&mut self) {
        let cloud = self.get(&office365::CLOUD).unwrap_or(Cloud::Global);
        let login_url = self.get(&office365::LOGIN_URL);
        for (spec, value, note) in of_cloud(cloud).into_iter().chain([graph(cloud, login_url)]) {
            self.fill(spec, value, &note);
        }
        let mut presets = Vec::new();
        for route in self.routes() {
            let own = route.set_here(&office365::CLOUD.spec);
            let own = own.and_then(|found| office365::CLOUD.parse(&found.value).ok());
            let login_url = route.set_here(&office365::LOGIN_URL.spec);
            if own.is_none() && login_url.is_none() {
                continue;
            }
            let login_url =
                login_url.and_then(|found| office365::LOGIN_URL.parse(&found.value).ok());
            let of_cloud = own.into_iter().flat_map(of_cloud);
            for (spec, value, note) in of_cloud.chain([graph(own.unwrap_or(cloud), login_url)]) {
                if route.set_here(spec).is_none() {
                    presets.push((route.slot(spec).path(), value, note));
                }
            }
        }
        for (path, value, note) in presets {
            self.values.insert(path, Effective { value, origin: Origin::Default(note) });
        }
    }
}

/// A key, its value, and where that comes from.
type Preset = (&'static Spec, ValueKind, String);

fn of_cloud(cloud: Cloud) -> Vec<Preset> {
    let preset = cloud.preset();
    let values: [(&'static Spec, ValueKind); 4] = [
        (&office365::LOGIN_URL.spec, preset.login_url.into()),
        (&office365::SCOPE.spec, preset.scope.into()),
        (&office365::SMTP_HOST.spec, preset.smtp_host.into()),
        (&office365::SMTP_PORT.spec, u64::from(preset.smtp_port).into()),
    ];
    let note = format!("default, cloud \"{}\"", cloud.name());
    values.map(|(spec, value)| (spec, value, note.clone())).into()
}

/// Tokens of another login host are of no use at the cloud's Graph.
fn graph(cloud: Cloud, login_url: Option<String>) -> Preset {
    let (preset, name) = (cloud.preset(), cloud.name());
    let (value, note) = match login_url {
        Some(url) if url != preset.login_url => {
            ("off", format!("default, `login_url` is not that of cloud \"{name}\""))
        }
        _ => (preset.graph_url, format!("default, cloud \"{name}\"")),
    };
    (&office365::GRAPH_URL.spec, value.into(), note)
}
