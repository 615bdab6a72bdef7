//! A queue to be damaged, and what each page of its file is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::super::super::{
    Outcome,
    tests::{START, open, put, relayed, settlement},
};

pub(super) const PAGE: u64 = 4096;

/// A queue that fills several pages of each table, all of it in `queue.db`.
pub(super) struct Template {
    pub directory: tempfile::TempDir,
    /// By queue id: the forward-paths and the mail data.
    pub messages: BTreeMap<String, (Vec<String>, Vec<u8>)>,
    pub pages: Vec<Page>,
}

#[derive(Debug, Clone)]
pub(super) struct Page {
    pub number: u64,
    /// The table or index, and whether it is its root, a leaf or what is in between.
    pub used_for: String,
    /// Messages that hang on it at most.
    pub rows: usize,
}

pub(super) const ALL: usize = 100_000;
pub(super) const MESSAGES: usize = 120;

impl Template {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let mut messages = BTreeMap::new();
        for number in 0..MESSAGES {
            let data = vec![b'a' + u8::try_from(number % 26).unwrap(); length(number)];
            let paths: Vec<_> =
                (0..=number % 3).map(|n| format!("{n}.{number}@example.com")).collect();
            let given: Vec<_> = paths.iter().map(String::as_str).collect();
            let receipt = put(&store, &data, &given).await.unwrap();
            messages.insert(receipt.id().to_string(), (paths, data));
        }
        for number in 0..MESSAGES {
            let receipt = put(&store, b"gone", &["gone@example.com"]).await.unwrap();
            let deferred =
                Outcome::Deferred { reply: format!("451 {number}"), next_attempt: START };
            store.settle(settlement(receipt.id(), vec![(0, deferred)])).await.unwrap();
            store.settle(settlement(receipt.id(), vec![(0, relayed())])).await.unwrap();
        }
        store.close().await;
        drop(store);
        let pages = pages(&directory.path().join("queue/queue.db"));
        Self { directory, messages, pages }
    }

    pub fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let (from, to) = (self.directory.path().join("queue"), copy.path().join("queue"));
        fs::create_dir_all(to.join("bodies")).unwrap();
        fs::copy(from.join("queue.db"), to.join("queue.db")).unwrap();
        for body in fs::read_dir(from.join("bodies")).unwrap().flatten() {
            fs::copy(body.path(), to.join("bodies").join(body.file_name())).unwrap();
        }
        copy
    }

    /// The first, the middle and the last page of each kind.
    pub fn some_pages(&self) -> Vec<Page> {
        let mut kinds: BTreeMap<&str, Vec<&Page>> = BTreeMap::new();
        for page in &self.pages {
            kinds.entry(&page.used_for).or_default().push(page);
        }
        let chosen = kinds.into_values().flat_map(|pages| {
            let places = BTreeSet::from([0, pages.len() / 2, pages.len() - 1]);
            places.into_iter().map(move |place| pages[place].clone())
        });
        chosen.collect()
    }

    pub fn page(&self, used_for: &str) -> u64 {
        self.nth_page(used_for, 0)
    }

    pub fn nth_page(&self, used_for: &str, number: usize) -> u64 {
        let pages: Vec<_> = self.pages.iter().filter(|page| page.used_for == used_for).collect();
        pages[number].number
    }
}

/// Most are small, some have overflow pages, some are files.
pub(super) fn length(number: usize) -> usize {
    match number % 12 {
        3 => 20_000,
        7 => 100_000,
        _ => 300,
    }
}

pub(super) fn queue(directory: &Path) -> PathBuf {
    directory.join("queue/queue.db")
}

pub(super) fn pages(database: &Path) -> Vec<Page> {
    let octets = fs::read(database).unwrap();
    let connection = Connection::open(database).unwrap();
    // Triggers have no pages of their own.
    let sql = "SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0";
    let mut roots = connection.prepare(sql).unwrap();
    let roots: Vec<(String, u64)> = roots
        .query_map([], |row| Ok((row.get(0)?, u64::from(row.get::<_, u32>(1)?))))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut pages = BTreeMap::new();
    for (name, root) in roots {
        let mut open = vec![root];
        while let Some(number) = open.pop() {
            let page = &octets[usize::try_from((number - 1) * PAGE).unwrap()..];
            let number_at =
                |at: usize| u64::from(u32::from_be_bytes(page[at..at + 4].try_into().unwrap()));
            let short_at = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
            let (is_leaf, cells) = (matches!(page[0], 10 | 13), short_at(3));
            let kind = if number == root {
                "root"
            } else if is_leaf {
                "leaf"
            } else {
                "interior"
            };
            let rows = if is_leaf && number != root { cells } else { ALL };
            pages.insert(number, Page { number, used_for: format!("{name} {kind}"), rows });
            if !is_leaf {
                open.push(number_at(8));
                open.extend((0..cells).map(|cell| number_at(short_at(12 + 2 * cell))));
            }
        }
    }
    let count = u64::try_from(octets.len()).unwrap() / PAGE;
    let overflow = |number| Page { number, used_for: "overflow".into(), rows: 1 };
    (2..=count)
        .map(|number| pages.get(&number).cloned().unwrap_or_else(|| overflow(number)))
        .collect()
}

pub(super) fn damage(directory: &Path, page: u64) {
    let mut random = fastrand::Rng::with_seed(page);
    let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(4096).collect();
    let file = fs::OpenOptions::new().write(true).open(queue(directory)).unwrap();
    file.write_all_at(&garbage, (page - 1) * PAGE).unwrap();
}
