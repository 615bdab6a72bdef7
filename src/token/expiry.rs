//! When the credential itself ends, and when to say so.

use super::{CertificateFiles, Config, Credential, certificate::Pair};
use crate::clock::UnixMillis;

/// The end of a client secret or a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// What ends, such as `certificate /etc/o365-relay/certificate.pem`.
    pub what: String,
    /// When.
    pub at: UnixMillis,
}

impl Expiry {
    /// That of a client secret, where the configuration tells it.
    pub(super) fn of_secret(config: &Config) -> Option<Self> {
        let Credential::ClientSecret(_) = config.credential else { return None };
        config.client_secret_expires.map(|at| Self::of_secret_of(config, at))
    }

    /// That of the account's client secret, known from elsewhere.
    pub(super) fn of_secret_of(config: &Config, at: UnixMillis) -> Self {
        // Several secrets have nothing else to tell them apart by.
        let what = match config.account.as_str() {
            "" => "client secret".to_owned(),
            account => format!("client secret of {account}"),
        };
        Self { what, at }
    }

    /// That of a certificate that was read.
    pub(super) fn of_certificate(files: &CertificateFiles, pair: &Pair) -> Self {
        let what = format!("certificate {}", files.certificate.display());
        Self { what, at: pair.not_after }
    }

    /// How many of the marks have been passed at `now`: 60, 30, 7 days and 1 day before the end
    /// are 1 to 4, and with the end itself it is [`Expiry::OVER`].
    #[must_use]
    pub fn marks_passed(&self, now: UnixMillis) -> u32 {
        let days = self.days_left(now);
        MARKS.iter().map(|mark| u32::from(days < *mark)).sum()
    }

    /// What [`Expiry::marks_passed`] is from the end on.
    pub const OVER: u32 = 5;

    /// Whole days left at `now`; negative once it has ended.
    #[must_use]
    pub fn days_left(&self, now: UnixMillis) -> i64 {
        self.at.0.saturating_sub(now.0).div_euclid(DAY_MILLIS)
    }
}

/// Remembers what has been said, so that each warning comes once.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    told: Option<(UnixMillis, u32)>,
}

impl Reminder {
    /// Whether something is to be said about `expiry` now: when it comes into a nearer class of
    /// days than the last time, or is another end in one of the classes.
    pub(super) fn is_due(&mut self, expiry: &Expiry, now: UnixMillis) -> bool {
        let class = expiry.marks_passed(now);
        let last = self.told.replace((expiry.at, class));
        let known = last.filter(|(at, _)| *at == expiry.at).map_or(0, |(_, class)| class);
        if class < known {
            self.told = last; // a clock that was set back is no news
        }
        class > known
    }
}

/// 60, 30, 7 days, 1 day and the end. With 60 days to go on the dot, 60 are left.
const MARKS: [i64; 5] = [61, 31, 8, 2, 0];
const DAY_MILLIS: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const START: UnixMillis = UnixMillis(1_795_415_050_000);

    fn ends_in(days: u32) -> Expiry {
        Expiry { what: "certificate".into(), at: START + DAY * days }
    }

    #[test]
    fn each_mark_is_told_once_and_the_end_as_well() {
        let (mut reminder, expiry) = (Reminder::default(), ends_in(100));
        let told: Vec<i64> = (0..110 * 24)
            .map(|hour| START + DAY * hour / 24)
            .filter(|now| reminder.is_due(&expiry, *now))
            .map(|now| expiry.days_left(now))
            .collect();
        assert_eq!(told, [60, 30, 7, 1, -1]);
    }

    #[test]
    fn a_start_tells_the_nearest_mark_and_a_new_end_starts_anew() {
        let mut reminder = Reminder::default();
        assert!(reminder.is_due(&ends_in(5), START) && !reminder.is_due(&ends_in(5), START));
        assert!(!reminder.is_due(&ends_in(500), START), "renewed");
        assert!(reminder.is_due(&ends_in(20), START));
        assert!(!reminder.is_due(&ends_in(20), UnixMillis(START.0 - 86_400_000 * 50)));
        assert!(!reminder.is_due(&ends_in(20), START), "a clock that jumped and came back");
    }

    #[test]
    fn days_are_whole_and_negative_after_the_end() {
        let expiry = ends_in(2);
        assert_eq!(expiry.days_left(START), 2);
        assert_eq!(expiry.days_left(START + Duration::from_secs(1)), 1);
        assert_eq!(expiry.days_left(START + DAY * 2), 0);
        assert_eq!(expiry.days_left(START + DAY * 2 + Duration::from_secs(1)), -1);
    }
}
