//! What the sandbox took in: one [`Arrival`] for each accepted message, counted, and written to
//! a directory if one is set.

use std::{
    collections::VecDeque,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Serialize, Serializer};

use crate::clock::UnixMillis;

/// One accepted message.
#[derive(Clone, Serialize)]
pub struct Arrival {
    /// Its place in the order of acceptance, from 1 (or after the highest number that
    /// `save_to` held at the start).
    pub number: u64,
    /// When the final dot was answered.
    #[serde(serialize_with = "as_rfc_3339")]
    pub arrived_at: UnixMillis,
    /// The mailbox that the client logged in as.
    pub authenticated_as: String,
    /// The name that the client gave with EHLO.
    pub helo: String,
    /// The argument of MAIL.
    pub reverse_path: String,
    /// The parameters of MAIL, as the client wrote them.
    pub mail_parameters: Vec<String>,
    /// The arguments of RCPT, in the client's order.
    pub forward_paths: Vec<ForwardPath>,
    /// Octets of mail data, without stuffed dots and the final dot.
    pub size: u64,
    /// The mail data itself, if the sandbox was asked to keep it.
    #[serde(skip)]
    pub mail_data: Option<Vec<u8>>,
    /// Text of the Subject field.
    pub subject: Option<String>,
    /// Text of the From field.
    pub from: Option<String>,
    /// Text of the Message-ID field.
    pub message_id: Option<String>,
}

/// One recipient of an [`Arrival`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForwardPath {
    /// The address.
    pub address: String,
    /// The parameters of RCPT, as the client wrote them.
    pub parameters: Vec<String>,
}

/// Mail data does not belong in a log.
impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("number", &self.number)
            .field("authenticated_as", &self.authenticated_as)
            .field("reverse_path", &self.reverse_path)
            .field("forward_paths", &self.forward_paths)
            .field("size", &self.size)
            .field("message_id", &self.message_id)
            .finish_non_exhaustive()
    }
}

fn as_rfc_3339<S: Serializer>(time: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.timestamp())
}

/// Numbers, saves and counts arrivals.
#[derive(Debug)]
pub(super) struct Arrivals {
    next: AtomicU64,
    accepted: AtomicU64,
    /// The last ones, without mail data.
    last: Mutex<VecDeque<Arc<Arrival>>>,
    directory: Option<PathBuf>,
    keep_mail_data: bool,
}

impl Arrivals {
    /// Makes `directory` ready. What an earlier sandbox left there stays: numbers go on after it.
    pub fn new(directory: Option<PathBuf>, keep_mail_data: bool) -> io::Result<Self> {
        let next = match &directory {
            Some(directory) => {
                fs::create_dir_all(directory)?;
                highest_number(directory)? + 1
            }
            None => 1,
        };
        let accepted = AtomicU64::new(0);
        let (next, last) = (AtomicU64::new(next), Mutex::default());
        Ok(Self { next, accepted, last, directory, keep_mail_data })
    }

    /// Whether anybody needs the mail data after its header has been read.
    pub fn wants_mail_data(&self) -> bool {
        self.keep_mail_data || self.directory.is_some()
    }

    /// How many were accepted since the start.
    pub fn count(&self) -> u64 {
        self.accepted.load(Ordering::Acquire)
    }

    /// The last ones, oldest first, without mail data.
    pub fn last(&self) -> Vec<Arc<Arrival>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn remember(&self, arrival: Arrival) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(Arc::new(arrival));
    }

    /// Takes `arrival` in: gives it its number and writes it out.
    pub async fn add(&self, mut arrival: Arrival, mail_data: Vec<u8>) -> io::Result<Arc<Arrival>> {
        arrival.number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut mail_data = mail_data;
        if let Some(directory) = self.directory.clone() {
            let work = move || {
                save(&directory, &arrival, &mail_data)?;
                Ok::<_, io::Error>((arrival, mail_data))
            };
            (arrival, mail_data) =
                tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??;
        }
        self.remember(arrival.clone());
        arrival.mail_data = self.keep_mail_data.then_some(mail_data);
        self.accepted.fetch_add(1, Ordering::Release);
        Ok(Arc::new(arrival))
    }
}

/// Writes the mail data, then the facts: who sees the second file finds the first complete.
fn save(directory: &Path, arrival: &Arrival, mail_data: &[u8]) -> io::Result<()> {
    let stem = format!("{:06}", arrival.number);
    let facts = serde_json::to_vec_pretty(arrival)?;
    write_whole(directory, &format!("{stem}.eml"), mail_data)?;
    write_whole(directory, &format!("{stem}.json"), &facts)
}

/// Under its final name a file is never half written.
fn write_whole(directory: &Path, name: &str, octets: &[u8]) -> io::Result<()> {
    let partial = directory.join(format!(".{name}.partial"));
    fs::write(&partial, octets)?;
    fs::rename(&partial, directory.join(name))
}

fn highest_number(directory: &Path) -> io::Result<u64> {
    let mut highest = 0;
    for entry in fs::read_dir(directory)? {
        let path = PathBuf::from(entry?.file_name());
        let ours = path.extension().is_some_and(|end| end == "eml" || end == "json");
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        highest = highest.max(number.filter(|_| ours).unwrap_or(0));
    }
    Ok(highest)
}

const REMEMBERED: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival() -> Arrival {
        let address = "x@y.example".to_owned();
        Arrival {
            number: 0,
            arrived_at: UnixMillis(1_795_415_050_123),
            authenticated_as: "relay@sandbox.example".into(),
            helo: "client.example".into(),
            reverse_path: "a@b.example".into(),
            mail_parameters: vec!["SIZE=3".into()],
            forward_paths: vec![ForwardPath { address, parameters: vec!["NOTIFY=NEVER".into()] }],
            size: 3,
            mail_data: None,
            subject: None,
            from: Some("a@b.example".into()),
            message_id: None,
        }
    }

    #[tokio::test]
    async fn an_arrival_is_saved_whole_and_numbers_go_on_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        let arrivals = Arrivals::new(Some(path.clone()), false).unwrap();
        for number in 1..=2 {
            let added = arrivals.add(arrival(), b"a\r\n".to_vec()).await.unwrap();
            assert_eq!((added.number, added.mail_data.as_ref()), (number, None));
        }
        assert_eq!(arrivals.count(), 2);
        assert_eq!(fs::read(path.join("000002.eml")).unwrap(), b"a\r\n");
        let facts = fs::read(path.join("000002.json")).unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
        assert_eq!(facts["arrived_at"], "2026-11-23T06:24:10.123Z");
        assert_eq!(facts["forward_paths"][0]["parameters"][0], "NOTIFY=NEVER");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 4, "no partial files stay");

        let restarted = Arrivals::new(Some(path), false).unwrap();
        assert_eq!(restarted.count(), 0);
        assert_eq!(restarted.add(arrival(), Vec::new()).await.unwrap().number, 3);
    }

    #[tokio::test]
    async fn the_last_ones_are_remembered_without_mail_data() {
        let arrivals = Arrivals::new(None, true).unwrap();
        for _ in 0..120 {
            arrivals.add(arrival(), b"private".to_vec()).await.unwrap();
        }
        let last = arrivals.last();
        assert_eq!((last.len(), last[0].number, last[99].number), (100, 21, 120));
        assert!(last.iter().all(|arrival| arrival.mail_data.is_none()));
    }

    #[tokio::test]
    async fn mail_data_is_kept_only_on_request_and_never_printed() {
        let kept = Arrivals::new(None, true).unwrap();
        let added = kept.add(arrival(), b"private".to_vec()).await.unwrap();
        assert_eq!(added.mail_data.as_deref(), Some(&b"private"[..]));
        assert!(!format!("{added:?}").contains("112"), "octets of mail data are printed");
        let counted = Arrivals::new(None, false).unwrap();
        assert!(!counted.wants_mail_data());
        assert_eq!(counted.add(arrival(), b"private".to_vec()).await.unwrap().mail_data, None);
    }
}
