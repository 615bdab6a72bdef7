//! What a page of Markdown holds: headings, links, code. It knows as much of Markdown as our pages
//! use, and no more.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A page.
pub struct Page {
    /// Its place in the repository.
    pub path: PathBuf,
    /// The ids of its headings, as mdBook and forges give them.
    pub anchors: Vec<String>,
    /// Targets of links, with their lines.
    pub links: Vec<(usize, String)>,
    /// Code within lines of text, with their lines.
    pub inline: Vec<(usize, String)>,
    /// What would be taken for a tag of HTML, and not be shown, with its line.
    pub tags: Vec<(usize, String)>,
    /// Blocks of code.
    pub blocks: Vec<Block>,
}

/// A block of code.
pub struct Block {
    /// The line of its fence.
    pub line: usize,
    /// What stands behind the fence.
    pub language: String,
    /// Its text.
    pub text: String,
}

impl Page {
    /// Reads a page at a path below the root of the repository.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut page = Self {
            path: path.to_owned(),
            anchors: Vec::new(),
            links: Vec::new(),
            inline: Vec::new(),
            tags: Vec::new(),
            blocks: Vec::new(),
        };
        let mut fence: Option<Block> = None;
        let mut prose: Vec<(usize, &str)> = Vec::new();
        for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
            match (&mut fence, text.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    let language = language.trim().to_owned();
                    fence = Some(Block { line, language, text: String::new() });
                }
                (Some(_), Some(_)) => page.blocks.extend(fence.take()),
                (Some(block), None) => {
                    block.text.push_str(text);
                    block.text.push('\n');
                }
                (None, None) => prose.push((line, text)),
            }
        }
        assert!(fence.is_none(), "{}: a block of code has no end", path.display());
        for (line, text) in &prose {
            if let Some(heading) = heading(text) {
                page.add_anchor(heading);
            }
            page.add_spans(*line, text);
        }
        page
    }

    /// Repeated headings get a number.
    fn add_anchor(&mut self, heading: &str) {
        let name = anchor(heading);
        let numbered = |id: &String| {
            let rest = id.strip_prefix(&name);
            rest.is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('-').is_some_and(|n| n.parse::<usize>().is_ok())
            })
        };
        let before = self.anchors.iter().filter(|id| numbered(id)).count();
        self.anchors.push(if before == 0 { name } else { format!("{name}-{before}") });
    }

    /// Code and links of one line.
    fn add_spans(&mut self, line: usize, text: &str) {
        let mut plain = String::new();
        for (at, part) in text.split('`').enumerate() {
            if at % 2 == 0 {
                plain.push_str(part);
            } else {
                self.inline.push((line, part.to_owned()));
                plain.push('`');
            }
        }
        for (at, _) in plain.match_indices('<') {
            let (before, tag) = plain.split_at(at);
            let is_tag =
                tag[1..].starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '/');
            if is_tag && !before.ends_with('\\') && !tag.starts_with("<https://") {
                self.tags.push((line, tag.chars().take(20).collect()));
            }
        }
        let mut rest = plain.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            self.links.push((line, target.to_owned()));
            rest = after;
        }
    }
}

fn heading(line: &str) -> Option<&str> {
    let level = line.bytes().take_while(|octet| *octet == b'#').count();
    (1..=6).contains(&level).then(|| line.get(level..)?.strip_prefix(' ')).flatten()
}

/// The id of a heading.
fn anchor(heading: &str) -> String {
    let sign = |sign: char| match sign {
        ' ' => Some('-'),
        '-' | '_' => Some(sign),
        _ if sign.is_alphanumeric() => sign.to_lowercase().next(),
        _ => None,
    };
    heading.trim().chars().filter_map(sign).collect()
}

/// Every page of the repository, generated ones included.
pub fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    collect(Path::new(""), &mut found);
    found.sort();
    found.iter().map(|path| Page::read(path)).collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    for entry in fs::read_dir(here).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = directory.join(&name);
        let left_out = name.starts_with('.') || name == "target" || name == "node_modules";
        if entry.file_type().unwrap().is_dir() && !left_out {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}
