//! The configuration: whatever the file, the variables and `--set` say, it is loaded or refused
//! with faults that can be printed, and never a panic.
//!
//! The input is the file; behind a line `%set` one `--set` a line, behind `%env` one
//! `NAME=VALUE` a line.

#![no_main]

use std::{cell::RefCell, fs, path::PathBuf};

use libfuzzer_sys::fuzz_target;
use o365_relay::config::{self, Sources};

thread_local! {
    static PLACE: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Files that it names are looked into: those that never end shall not be found by chance.
    if ["/dev", "/proc", "/sys", "//", "/.", "\\u", "\\U"].iter().any(|odd| text.contains(odd)) {
        return;
    }
    let mut sources = Sources { file: Some(file()), ..Sources::default() };
    let mut file = String::new();
    let mut section = "";
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        match (bare, section) {
            ("%set" | "%env", _) => section = bare,
            (_, "%set") => sources.set.push(bare.to_owned()),
            (_, "%env") => {
                let (name, value) = bare.split_once('=').unwrap_or((bare, ""));
                if name != "O365_RELAY_CONFIG" {
                    sources.environment.insert(name.to_owned(), value.to_owned());
                }
            }
            _ => file.push_str(line),
        }
    }
    fs::write(sources.file.as_ref().expect("a file"), &file).expect("the file is written");
    match (config::load(&sources), config::show(&sources)) {
        (Ok(config), Ok(settings)) => {
            let _ = format!("{config:?}");
            assert!(!settings.is_empty());
            for setting in &settings {
                assert!(setting.key.contains('.') && !setting.origin.is_empty(), "{setting:?}");
            }
        }
        (Err(faults), Err(again)) => {
            assert!(!faults.to_string().is_empty());
            assert_eq!(faults.to_string(), again.to_string());
        }
        (loaded, shown) => panic!("{loaded:?} and {shown:?}"),
    }
});

fn file() -> PathBuf {
    PLACE.with_borrow_mut(|place| {
        let place = place.get_or_insert_with(|| tempfile::tempdir().expect("a directory"));
        place.path().join("config.toml")
    })
}
