//! The file: found, read, and taken apart with the line of each key.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use config::{Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::{
    Sources,
    fault::Faults,
    guess::guess,
    keys,
    layer::Layer,
    slots::{Slot, section_path},
    suggest,
};

/// What became of the file.
pub(super) enum FileState {
    /// It was read; these are its settings.
    Read(Layer),
    /// There is none at the default place, and none was asked for.
    Absent(PathBuf),
    /// It cannot be used; the faults say why. Keys may be missing for that reason alone.
    Broken,
}

/// Reads the file that `sources` name, else `default`.
pub(super) fn read(sources: &Sources, default: &Path, faults: &mut Faults) -> FileState {
    let (path, origin) = place(sources, default);
    match fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text, faults),
        Err(error) if error.kind() == io::ErrorKind::NotFound && origin.is_none() => {
            FileState::Absent(path)
        }
        Err(error) => {
            let message = format!("could not read the file: {error}; {}", cure(&error, &path));
            faults.add(path.display().to_string(), message, origin);
            FileState::Broken
        }
    }
}

/// Which file is read, and what has named it, if something has.
pub(super) fn place(sources: &Sources, default: &Path) -> (PathBuf, Option<&'static str>) {
    match (&sources.file, sources.variable("O365_RELAY_CONFIG")) {
        (Some(path), _) => (path.clone(), Some("--config")),
        (None, Some(path)) => (PathBuf::from(path), Some("environment variable O365_RELAY_CONFIG")),
        (None, None) => (default.to_path_buf(), None),
    }
}

fn cure(error: &io::Error, path: &Path) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("create it with `o365-relay config example > {path}`, or name another file")
        }
        io::ErrorKind::PermissionDenied => format!(
            "let the user of the service read it, such as with \
             `chown root:o365-relay {path}` and `chmod 0640 {path}`"
        ),
        io::ErrorKind::InvalidData => "save it as UTF-8".into(),
        _ => "name a file in TOML".into(),
    }
}

fn parse(path: &Path, text: &str, faults: &mut Faults) -> FileState {
    let file = Lines { path, text };
    let (document, mut errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return FileState::Read(file.layer(document.get_ref(), faults));
    }
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        // Not the error's own text: it quotes the line, and that may hold a secret.
        let origin = file.column(offset);
        let message = format!("not TOML: {}{}", error.message(), both_forms(text));
        faults.add(path.display().to_string(), message, Some(&origin));
    }
    FileState::Broken
}

/// What to do where a section stands once as `[name]` and again as `[[name]]`, which is what
/// becomes of a file when a second listener is added to it.
fn both_forms(text: &str) -> String {
    let stands = |header: &str| text.lines().any(|line| line.trim_start().starts_with(header));
    let both = |section: &&keys::Section| {
        let name = section.name;
        section.repeatable && stands(&format!("[{name}]")) && stands(&format!("[[{name}]]"))
    };
    match keys::SECTIONS.iter().find(both) {
        Some(keys::Section { name, .. }) => {
            format!("; where there are several, write the first one as `[[{name}]]` too")
        }
        None => String::new(),
    }
}

struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    fn layer(&self, document: &DeTable<'_>, faults: &mut Faults) -> Layer {
        let mut layer = Layer::default();
        for (offset, name, value) in in_order(document) {
            match (keys::section(name), value) {
                (Some(section), DeValue::Table(table)) => {
                    self.section(section, None, table, &mut layer, faults);
                }
                (Some(section), DeValue::Array(items))
                    if section.repeatable && !items.is_empty() && items.iter().all(is_table) =>
                {
                    for (number, item) in (1..).zip(items.iter()) {
                        let DeValue::Table(table) = item.get_ref() else { continue };
                        layer.begin(section.name, number, &self.line(item.span().start));
                        self.section(section, Some(number), table, &mut layer, faults);
                    }
                }
                _ => faults.add(name, stray(name, value), Some(&self.line(offset))),
            }
        }
        layer
    }

    fn section(
        &self,
        section: &keys::Section,
        number: Option<usize>,
        table: &DeTable<'_>,
        layer: &mut Layer,
        faults: &mut Faults,
    ) {
        for (offset, name, value) in in_order(table) {
            let origin = self.line(offset);
            match keys::find(section.name, name) {
                Some(spec) => {
                    layer.set(Slot { spec, number }, Value::new(Some(&origin), kind(value)));
                }
                None => {
                    let message = guess(section.name, name).message("unknown key", |spec| {
                        if spec.section == section.name { spec.name.into() } else { spec.path() }
                    });
                    let place = section_path(section.name, number);
                    faults.add(format!("{place}.{name}"), message, Some(&origin));
                }
            }
        }
    }

    fn line(&self, offset: usize) -> String {
        format!("{}:{}", self.path.display(), self.before(offset).matches('\n').count() + 1)
    }

    fn column(&self, offset: usize) -> String {
        let line = self.before(offset).rsplit('\n').next().unwrap_or_default();
        format!("{}:{}", self.line(offset), line.chars().count() + 1)
    }

    fn before(&self, offset: usize) -> &str {
        self.text.get(..offset).unwrap_or(self.text)
    }
}

/// The entries as they stand in the file, each with its offset.
fn in_order<'a>(table: &'a DeTable<'_>) -> Vec<(usize, &'a str, &'a DeValue<'a>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(name, value)| (name.span().start, name.get_ref().as_ref(), value.get_ref()))
        .collect();
    entries.sort_by_key(|(offset, ..)| *offset);
    entries
}

/// Why an entry of the whole document is no section of ours.
fn stray(name: &str, value: &DeValue<'_>) -> String {
    if keys::section(name).is_some() {
        return format!("expected a section, `[{name}]`");
    }
    if !matches!(value, DeValue::Table(_)) {
        let home = keys::table().map(keys::AnyKey::spec).find(|spec| spec.name == name);
        return match home {
            Some(spec) => format!("stands in no section; put it below `[{}]`", spec.section),
            None => guess("", name).message("unknown key", keys::Spec::path),
        };
    }
    match suggest::nearest(name, keys::SECTIONS.iter().map(|section| section.name)) {
        Some(section) => format!("unknown section, did you mean `[{section}]`?"),
        None => "unknown section; `o365-relay config example` shows all there are".into(),
    }
}

fn is_table(item: &toml::Spanned<DeValue<'_>>) -> bool {
    matches!(item.get_ref(), DeValue::Table(_))
}

fn kind(value: &DeValue<'_>) -> ValueKind {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string().into(), ValueKind::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| number.to_string().into(), ValueKind::from),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => {
            items.iter().map(|item| kind(item.get_ref())).collect::<Vec<_>>().into()
        }
        // Not a table: the layers would merge its entries into what is below.
        DeValue::Table(_) => ValueKind::Nil,
    }
}
