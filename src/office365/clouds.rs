//! Microsoft's clouds: where to log in, what to ask for, where to submit. An application lives
//! in one cloud only, so these values go together.

/// A cloud that Exchange Online runs in, or a service of it that takes mail in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// The worldwide cloud; the US government's GCC uses it too.
    Global,
    /// US government, GCC High.
    GccHigh,
    /// US Department of Defense.
    Dod,
    /// China, operated by 21Vianet.
    China,
    /// High Volume Email of the worldwide cloud: many messages, internal recipients only.
    Hve,
}

/// The values that belong to one cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Where tokens are issued: `https://` and a host, no slash at the end.
    pub login_url: &'static str,
    /// The resource an access token is for, and `/.default`.
    pub scope: &'static str,
    /// The submission host.
    pub smtp_host: &'static str,
    /// The submission port.
    pub smtp_port: u16,
    /// Microsoft Graph, for the set-up and the end of a secret: `https://` and a host, no slash at the end.
    pub graph_url: &'static str,
}

impl Cloud {
    /// Every cloud with the word that the configuration has for it.
    pub const ALL: [(&'static str, Self); 5] = [
        ("global", Self::Global),
        ("gcc-high", Self::GccHigh),
        ("dod", Self::Dod),
        ("china", Self::China),
        ("hve", Self::Hve),
    ];

    /// The word that the configuration has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::GccHigh => "gcc-high",
            Self::Dod => "dod",
            Self::China => "china",
            Self::Hve => "hve",
        }
    }

    /// The values that belong to it.
    #[must_use]
    pub fn preset(self) -> Preset {
        match self {
            Self::Global => GLOBAL,
            Self::GccHigh => GCC_HIGH,
            Self::Dod => DOD,
            Self::China => CHINA,
            Self::Hve => HVE,
        }
    }
}

const GLOBAL: Preset = Preset {
    login_url: "https://login.microsoftonline.com",
    scope: "https://outlook.office365.com/.default",
    smtp_host: "smtp.office365.com",
    smtp_port: 587,
    graph_url: "https://graph.microsoft.com",
};

const GCC_HIGH: Preset = Preset {
    login_url: "https://login.microsoftonline.us",
    scope: "https://outlook.office365.us/.default",
    smtp_host: "smtp.office365.us",
    smtp_port: 587,
    graph_url: "https://graph.microsoft.us",
};

// Microsoft documents the login host; scope and submission host are hearsay, so a failure here
// should first put these two in doubt.
const DOD: Preset = Preset {
    smtp_host: "outlook-dod.office365.us",
    graph_url: "https://dod-graph.microsoft.us",
    ..GCC_HIGH
};

const CHINA: Preset = Preset {
    login_url: "https://login.partner.microsoftonline.cn",
    scope: "https://partner.outlook.cn/.default",
    smtp_host: "smtp.partner.outlook.cn",
    smtp_port: 587,
    graph_url: "https://microsoftgraph.chinacloudapi.cn",
};

// The scope is the one that others were seen to use with this service; Microsoft's page on it
// names the permission but no scope.
const HVE: Preset = Preset {
    scope: "https://outlook.office.com/.default",
    smtp_host: "smtp.hve.mx.microsoft",
    ..GLOBAL
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_has_one_word_and_well_formed_values() {
        for (word, cloud) in Cloud::ALL {
            assert_eq!(cloud.name(), word);
            let preset = cloud.preset();
            assert!(preset.scope.starts_with("https://") && preset.scope.ends_with("/.default"));
            for url in [preset.login_url, preset.graph_url] {
                assert!(url.starts_with("https://") && !url.ends_with('/'), "{url}");
            }
        }
    }
}
