//! Whether a client is who it says it is. Hashing is slow on purpose, so it is done apart from the
//! runtime's threads, two at a time in all: neither memory nor the other sessions suffer.

mod failures;
mod hashing;
mod remembered;
mod users;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};

pub(super) use hashing::Workshop;
pub use users::{HashError, Users, UsersFault, hash_password};

use self::{failures::Failures, hashing::Place, remembered::Remembered, users::FileWatch};
use super::client::Client;
use crate::smtp::{
    auth::{Credentials, Verdict},
    session::Login,
};

/// How clients log in.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// With any name and any password, or without: for devices that insist on it.
    Any,
    /// Each must, as one of these.
    Users(UserSource),
}

/// Where users come from.
#[derive(Debug, Clone)]
pub enum UserSource {
    /// The configuration.
    List(Users),
    /// A file that is read again whenever it has changed.
    File(PathBuf),
}

impl Auth {
    /// What the session machine needs to know of it.
    pub(super) fn login(&self) -> Login {
        match self {
            Self::None => Login::No,
            Self::Any => Login::Optional,
            Self::Users(_) => Login::Required,
        }
    }
}

/// Looks at the passwords of one listener's clients.
pub(super) struct Authenticator {
    checker: Option<Arc<Checker>>,
    accepts_any: bool,
    failures: Arc<Failures>,
    workshop: Workshop,
}

impl Authenticator {
    /// `workshop` is that of all listeners together.
    pub fn new(auth: &Auth, workshop: Workshop) -> Self {
        Self { checker: None, accepts_any: false, failures: Arc::default(), workshop }.with(auth)
    }

    /// The same for other users; who has failed stays known.
    pub fn with(&self, auth: &Auth) -> Self {
        let checker = match auth {
            Auth::None | Auth::Any => None,
            Auth::Users(source) => Some(Arc::new(Checker::new(source))),
        };
        let accepts_any = matches!(auth, Auth::Any);
        let (failures, workshop) = (Arc::clone(&self.failures), self.workshop.clone());
        Self { checker, accepts_any, failures, workshop }
    }

    /// Takes its time over a refusal, and more with each one.
    pub async fn verify(&self, client: Client, credentials: Credentials) -> Verdict {
        let Some(checker) = &self.checker else {
            return if self.accepts_any { Verdict::Accepted } else { Verdict::Refused };
        };
        let name = credentials.name.clone();
        let Some(place) = self.workshop.enter().await else { return Verdict::Unavailable };
        // Only now: others may have failed while this one waited.
        if self.failures.blocks(client, &name) {
            return Verdict::Blocked;
        }
        let (checker, failures) = (Arc::clone(checker), Arc::clone(&self.failures));
        let check = spawn_blocking(move || {
            let finding = checker.check(client, &credentials, &failures, &place);
            // Behind the count, or the next one would get in without it. A client that hangs up
            // meanwhile is counted all the same.
            drop(place);
            finding
        });
        match check.await {
            Ok(Finding::Right) => Verdict::Accepted,
            Ok(Finding::Wrong(delay)) => {
                tracing::warn!(%client, user = name, "login refused");
                sleep(delay).await;
                Verdict::Refused
            }
            Ok(Finding::NoUsers) | Err(_) => Verdict::Unavailable,
        }
    }
}

enum Finding {
    Right,
    /// The reply waits for so long.
    Wrong(Duration),
    NoUsers,
}

/// The users as they are now.
struct Checker {
    users: Mutex<Current>,
    remembered: Remembered,
}

enum Current {
    Fixed(Arc<Users>),
    Watched(FileWatch),
}

impl Checker {
    fn new(source: &UserSource) -> Self {
        let current = match source {
            UserSource::List(users) => Current::Fixed(Arc::new(users.clone())),
            UserSource::File(path) => Current::Watched(FileWatch::new(path.clone())),
        };
        Self { users: Mutex::new(current), remembered: Remembered::default() }
    }

    fn check(
        &self,
        client: Client,
        credentials: &Credentials,
        failures: &Failures,
        place: &Place,
    ) -> Finding {
        match self.is_right(credentials, place) {
            Some(true) => {
                failures.forgive(client, &credentials.name);
                Finding::Right
            }
            Some(false) => Finding::Wrong(failures.note(client, &credentials.name)),
            None => Finding::NoUsers,
        }
    }

    /// `None` if there are no users to compare with. It may take a good part of a second.
    fn is_right(&self, credentials: &Credentials, place: &Place) -> Option<bool> {
        let users = match &mut *self.users.lock().unwrap_or_else(PoisonError::into_inner) {
            Current::Fixed(users) => Arc::clone(users),
            Current::Watched(file) => file.users()?,
        };
        let hash = users.hash_of(&credentials.name);
        if let Some(hash) = hash
            && self.remembered.knows(credentials, hash)
        {
            return Some(true);
        }
        let right = users.verify(credentials, place);
        if let Some(hash) = hash.filter(|_| right) {
            self.remembered.remember(credentials, hash);
        }
        Some(right)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::Instant;

    use super::{users::tests::cheap, *};

    fn client(last: u8) -> Client {
        Client::at([192, 0, 2, last].into())
    }

    fn users(list: &[(&str, &str)]) -> String {
        let line = |(name, password): &(&str, &str)| format!("{name}:{}", cheap(password));
        list.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn authenticator(list: &[(&str, &str)]) -> Authenticator {
        let users = Users::parse(&users(list)).unwrap();
        Authenticator::new(&Auth::Users(UserSource::List(users)), Workshop::default())
    }

    async fn login(auth: &Authenticator, from: u8, name: &str, password: &str) -> Verdict {
        auth.verify(client(from), Credentials::new(name, password)).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_right_password_is_accepted_and_each_wrong_one_takes_longer() {
        let auth = authenticator(&[("scanner", "s3cret"), ("fax", "other")]);
        for _ in 0..3 {
            assert_eq!(login(&auth, 1, "scanner", "s3cret").await, Verdict::Accepted);
        }
        let mut waits = Vec::new();
        for (name, password) in [("scanner", "other"), ("nobody", "s3cret"), ("SCANNER", "s3cret")]
        {
            let before = Instant::now();
            assert_eq!(login(&auth, 1, name, password).await, Verdict::Refused, "{name}");
            waits.push(before.elapsed().as_secs());
        }
        assert_eq!(waits, [1, 2, 3]);
        let before = Instant::now();
        assert_eq!(login(&auth, 1, "scanner", "s3cret").await, Verdict::Accepted);
        assert_eq!(before.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_is_blocked_for_a_while_and_nobody_else_is() {
        let auth = authenticator(&[("scanner", "s3cret"), ("fax", "other")]);
        for _ in 0..10 {
            assert_eq!(login(&auth, 1, "scanner", "guess").await, Verdict::Refused);
        }
        // Not even the right password, or guessing would go on.
        assert_eq!(login(&auth, 1, "scanner", "s3cret").await, Verdict::Blocked);
        assert_eq!(login(&auth, 2, "scanner", "s3cret").await, Verdict::Accepted);
        assert_eq!(login(&auth, 1, "fax", "other").await, Verdict::Accepted);
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(login(&auth, 1, "scanner", "s3cret").await, Verdict::Accepted);
    }

    #[tokio::test]
    async fn any_takes_all_and_none_takes_nobody() {
        let any = Authenticator::new(&Auth::Any, Workshop::default());
        assert_eq!(login(&any, 1, "whoever", "whatever").await, Verdict::Accepted);
        let none = Authenticator::new(&Auth::None, Workshop::default());
        assert_eq!(login(&none, 1, "whoever", "whatever").await, Verdict::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_of_users_is_read_again_when_it_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let write = |text: &str| {
            // As editors and tools do it: a new file in place of the old one.
            let new = directory.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        let auth =
            Authenticator::new(&Auth::Users(UserSource::File(path.clone())), Workshop::default());
        assert_eq!(login(&auth, 1, "scanner", "one").await, Verdict::Unavailable);
        write(&users(&[("scanner", "one")]));
        assert_eq!(login(&auth, 1, "scanner", "one").await, Verdict::Accepted);
        write(&users(&[("scanner", "two")]));
        assert_eq!(login(&auth, 1, "scanner", "one").await, Verdict::Refused, "not remembered");
        assert_eq!(login(&auth, 1, "scanner", "two").await, Verdict::Accepted);
        // A bad file, or none at all, leaves the users as they were.
        write("scanner two\n");
        assert_eq!(login(&auth, 1, "scanner", "two").await, Verdict::Accepted);
        fs::remove_file(&path).unwrap();
        assert_eq!(login(&auth, 1, "scanner", "two").await, Verdict::Accepted);
    }
}
