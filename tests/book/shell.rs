//! Command lines of the relay in what people paste into a shell.

/// The arguments of each `o365-relay ...` in `script`, the name of the program included.
pub fn commands(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    script.lines().flat_map(words).filter_map(|words| relay(&words)).collect()
}

/// The simple commands of one line, each in words.
fn words(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut signs = line.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                word.extend(signs.by_ref().take_while(|next| *next != sign));
            }
            '\\' => word.get_or_insert_default().extend(signs.next()),
            '#' if word.is_none() => break,
            ' ' | '\t' => commands.last_mut().unwrap().extend(word.take()),
            // A placeholder such as `<id>` is a word; anything else redirects.
            '<' if signs.peek().is_some_and(char::is_ascii_alphabetic) => {
                let word = word.get_or_insert_default();
                word.push('<');
                word.extend(signs.by_ref().take_while(|next| *next != '>'));
                word.push('>');
            }
            '|' | ';' | '&' | '<' | '>' | '(' | ')' => {
                commands.last_mut().unwrap().extend(word.take());
                commands.push(Vec::new());
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    commands.last_mut().unwrap().extend(word.take());
    commands
}

/// What stands before the program: a prompt, variables, `sudo` and the like.
fn relay(words: &[String]) -> Option<Vec<String>> {
    let is_relay = |word: &String| word.rsplit('/').next() == Some("o365-relay");
    let at = words.iter().position(is_relay)?;
    let before = |word: &String| {
        let first = word.bytes().next();
        ["$", "sudo", "exec", "nice", "-u", "--"].contains(&word.as_str())
            || word.contains('=')
            || (first.is_some_and(|first| first.is_ascii_lowercase()) && words[0] == "sudo")
    };
    // `systemctl start o365-relay`, `useradd o365-relay`: its name, and no call.
    words[..at].iter().all(before).then(|| words[at..].to_vec())
}
