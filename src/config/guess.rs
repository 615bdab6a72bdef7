//! What an unknown key may stand for.

use super::{
    keys::{self, AnyKey, Spec},
    suggest,
};

/// What somebody may have meant by an unknown key.
pub(super) enum Guess {
    /// This key, misspelt or in the wrong section.
    Near(&'static Spec),
    /// No idea.
    None,
}

/// What `section.name`, which is unknown, may stand for.
pub(super) fn guess(section: &str, name: &str) -> Guess {
    let specs = || keys::table().map(AnyKey::spec);
    let all = || keys::all().map(AnyKey::spec);
    let moved = specs().find(|spec| spec.name == name);
    let in_section = || {
        let names = all().filter(|spec| spec.section == section).map(|spec| spec.name);
        suggest::nearest(name, names).and_then(|near| keys::find(section, near))
    };
    let anywhere = || {
        let paths: Vec<_> = specs().map(Spec::path).collect();
        let near =
            suggest::nearest(&format!("{section}.{name}"), paths.iter().map(String::as_str))?;
        near.split_once('.').and_then(|(section, name)| keys::find(section, name))
    };
    moved.or_else(in_section).or_else(anywhere).map_or(Guess::None, Guess::Near)
}

impl Guess {
    /// The message for it; `name` says how a key is called where the unknown one was found.
    pub(super) fn message(&self, what: &str, name: impl Fn(&'static Spec) -> String) -> String {
        match self {
            Self::Near(spec) => format!("{what}, did you mean `{}`?", name(spec)),
            Self::None => format!("{what}; `o365-relay config example` shows all there are"),
        }
    }
}
