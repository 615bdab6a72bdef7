//! The documentation against what it speaks of: pages and headings that links lead to, the table
//! of contents, command lines, configuration keys.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "book/page.rs"]
mod page;
#[path = "book/shell.rs"]
mod shell;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use o365_relay::{cli, config};

use self::page::{Page, pages};

const BOOK: &str = "docs";

/// What was found wrong, all of it at once.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// `a/b/../c` is `a/c`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn each_link_leads_somewhere() {
    let pages = pages();
    let anchors: BTreeMap<_, _> =
        pages.iter().map(|page| (page.path.as_path(), page.anchors.as_slice())).collect();
    let mut faults = Vec::new();
    for page in &pages {
        let in_book = page.path.starts_with(BOOK);
        for (line, target) in &page.links {
            if target.starts_with("https://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => page.path.clone(),
                file => plain(&page.path.parent().unwrap().join(file)),
            };
            let missing = if !file.exists() {
                "there is no such file"
            } else if in_book && !file.starts_with(BOOK) {
                "the book as HTML does not have this file: name its path in backticks instead"
            } else if !anchor.is_empty()
                && !anchors.get(file.as_path()).is_some_and(|ids| ids.iter().any(|id| id == anchor))
            {
                "there is no such heading"
            } else {
                continue;
            };
            faults.push(format!("{}:{line}: {target}: {missing}", page.path.display()));
        }
    }
    assert_none(&faults);
}

#[test]
fn nothing_is_taken_for_a_tag_of_html() {
    let faults = |page: &Page| {
        let place = page.path.display().to_string();
        let fault = |(line, tag): &(usize, String)| format!("{place}:{line}: {tag}: use backticks");
        page.tags.iter().map(fault).collect::<Vec<_>>()
    };
    assert_none(&pages().iter().flat_map(faults).collect::<Vec<_>>());
}

#[test]
fn the_table_of_contents_has_each_page_once() {
    let mut listed = BTreeSet::new();
    let summary = Page::read(Path::new("docs/SUMMARY.md"));
    for (line, target) in &summary.links {
        assert!(listed.insert(Path::new(BOOK).join(target)), "SUMMARY.md:{line}: {target} again");
    }
    let pages = pages().into_iter().map(|page| page.path);
    let pages: BTreeSet<_> =
        pages.filter(|path| path.starts_with(BOOK) && !path.ends_with("SUMMARY.md")).collect();
    assert_eq!(listed, pages, "docs/SUMMARY.md (left) and docs/ (right) differ");
}

/// A word of a command line without the signs of a synopsis, and an id for `ID...`.
fn filled_in(word: &str) -> &str {
    match word.trim_matches(['[', ']', '.']) {
        "ID" => "01N83R3NTH6BN67DG4",
        plain if word.starts_with('[') || word.ends_with(']') || word.ends_with("...") => plain,
        _ => word,
    }
}

/// What is printed for people to run has to be what the program takes.
#[test]
fn each_command_line_is_one_that_the_program_takes() {
    let definition = cli::command();
    let subcommands: Vec<_> =
        definition.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let (mut faults, mut count) = (Vec::new(), 0);
    let mut check = |page: &Page, line: usize, arguments: &[String], whole: bool| {
        count += 1;
        let arguments: Vec<_> = arguments.iter().map(|word| filled_in(word)).collect();
        let Err(error) = cli::command().try_get_matches_from(&arguments) else { return };
        let no_value = Some(&ContextValue::String(String::new()));
        let part = error.get(ContextKind::InvalidValue) == no_value
            || matches!(
                error.kind(),
                ErrorKind::MissingRequiredArgument
                    | ErrorKind::MissingSubcommand
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
        let fine = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        if !fine && (whole || !part) {
            let place = format!("{}:{line}", page.path.display());
            faults.push(format!("{place}: {}\n{error}", arguments.join(" ")));
        }
    };
    for page in pages() {
        for block in &page.blocks {
            let scripts = ["sh", "text", "yaml", "ini", "dockerfile", ""];
            if !scripts.contains(&block.language.as_str()) {
                continue;
            }
            // What a terminal showed: the lines behind a prompt.
            let typed = |line: &&str| block.language != "text" || line.starts_with("$ ");
            let script: Vec<_> = block.text.lines().filter(typed).collect();
            for arguments in shell::commands(&script.join("\n")) {
                check(&page, block.line, &arguments, true);
            }
        }
        for (line, code) in &page.inline {
            // In running text the name of the program and the arguments may be left out.
            let code = match code.split_once(' ') {
                Some((first, _)) if subcommands.iter().any(|name| name == first) => {
                    format!("o365-relay {code}")
                }
                _ => code.clone(),
            };
            for arguments in shell::commands(&code) {
                check(&page, *line, &arguments, false);
            }
        }
    }
    assert_none(&faults);
    assert!(count > 100, "only {count} command lines were found: is this test still reading?");
}

/// The keys of the reference, which a test of the table keeps complete, and their sections.
fn keys() -> BTreeSet<String> {
    let reference = config::page_of_keys();
    let headings = reference.lines().filter_map(|line| line.strip_prefix("### `"));
    let keys: BTreeSet<_> =
        headings.map(|heading| heading.trim_end_matches('`').to_owned()).collect();
    let of_routes = keys.iter().filter_map(|key| key.strip_prefix("office365."));
    let of_routes: Vec<_> = of_routes.map(|name| format!("route.{name}")).collect();
    keys.into_iter().chain(of_routes).collect()
}

/// `listener.2.allow` is the `listener.allow` of the second one.
fn without_number(path: &str) -> String {
    let parts = path.split('.').filter(|part| part.parse::<u32>().is_err() && *part != "N");
    parts.collect::<Vec<_>>().join(".")
}

/// The key that a piece of code names, if it names one: a path, with or without a value, or a
/// variable.
fn named(code: &str, sections: &BTreeSet<&str>) -> Option<String> {
    let name = code.split([' ', '=']).next()?;
    let path = match name.strip_prefix("O365_RELAY__") {
        Some(variable) => variable.to_lowercase().replace("__", "."),
        None => name.to_owned(),
    };
    let (section, rest) = path.split_once('.')?;
    let is_path = |sign: char| sign.is_ascii_alphanumeric() || "._*".contains(sign);
    let file = ["db", "db-wal", "rs", "toml"].contains(&rest);
    let template = section == "section";
    (sections.contains(section) || name != path)
        .then(|| without_number(&path))
        // `route.2` is a section.
        .filter(|path| path.contains('.') && path.chars().all(is_path) && !file && !template)
}

#[test]
fn each_configuration_key_that_is_named_exists() {
    let keys = keys();
    let sections: BTreeSet<_> =
        keys.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    let known = |path: &str| match path.strip_suffix('*') {
        Some(start) => keys.iter().any(|key| key.starts_with(start)),
        None => keys.contains(path),
    };
    let (mut faults, mut count) = (Vec::new(), 0);
    for page in pages() {
        for (line, code) in &page.inline {
            let Some(path) = named(code, &sections) else { continue };
            count += 1;
            if !known(&path) {
                faults.push(format!("{}:{line}: there is no {path}", page.path.display()));
            }
        }
    }
    assert_none(&faults);
    assert!(count > 100, "only {count} keys were found: is this test still reading?");
}

/// The paths of the keys of a table.
fn paths(table: &toml::Table) -> Vec<String> {
    let mut paths = Vec::new();
    for (section, value) in table {
        let tables = match value {
            toml::Value::Table(table) => vec![table],
            toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_table).collect(),
            _ => Vec::new(),
        };
        if tables.is_empty() {
            // A piece of a section.
            paths.push(format!("*.{section}"));
        }
        paths.extend(
            tables.iter().flat_map(|keys| keys.keys()).map(|key| format!("{section}.{key}")),
        );
    }
    paths
}

#[test]
fn each_piece_of_configuration_is_made_of_keys_that_exist() {
    let keys = keys();
    let known = |path: &str| match path.strip_prefix('*') {
        Some(name) => keys.iter().any(|key| key.ends_with(name)),
        None => keys.contains(path),
    };
    let mut faults = Vec::new();
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "toml") {
            let place = format!("{}:{}", page.path.display(), block.line);
            match block.text.parse::<toml::Table>() {
                Ok(table) => {
                    let unknown = paths(&table).into_iter().filter(|path| !known(path));
                    faults.extend(unknown.map(|path| format!("{place}: there is no {path}")));
                }
                Err(error) => faults.push(format!("{place}: {error}")),
            }
        }
    }
    assert_none(&faults);
}
