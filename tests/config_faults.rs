//! Each folder of `bad_configs` has a faulty `config.toml` and, in `expected`, the whole of what
//! the operator is told about it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use o365_relay::config::{self, Sources};

#[test]
fn bad_configs_are_refused_in_the_expected_words() {
    let root = Path::new("tests/bad_configs");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 12, "the folders are gone");
    let mut differing = Vec::new();
    for folder in folders {
        let found = told_about(&folder);
        let expected = fs::read_to_string(folder.join("expected")).unwrap_or_default();
        if found != expected {
            differing.push(format!("--- {}\n{found}", folder.display()));
        }
    }
    assert!(differing.is_empty(), "not as expected, but:\n{}", differing.join("\n"));
}

/// The faults, one a line, with `config.toml` for the path of the file.
fn told_about(folder: &Path) -> String {
    let file = folder.join("config.toml");
    let sources = Sources { file: Some(file), ..Sources::default() };
    let faults = match config::load(&sources) {
        Ok(_) => return "no fault\n".into(),
        Err(faults) => faults.to_string(),
    };
    format!("{}\n", faults.replace(&format!("{}/", folder.display()), ""))
}
