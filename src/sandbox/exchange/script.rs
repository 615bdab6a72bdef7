//! As much PowerShell as an admin's script needs: comments, strings, one variable at a time,
//! `if`, pipes, and cmdlets with named parameters. Each statement stands on one line.

use std::collections::HashMap;

use super::{Known, State, cmdlets};

/// Why a script ended early. Nothing of it counts then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ScriptFault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, in plain words.
    pub reason: String,
}

/// Runs `script` over `state`; what its commands show comes back.
pub(super) fn run(
    script: &str,
    state: &mut State,
    known: &Known<'_>,
) -> Result<Vec<String>, ScriptFault> {
    let mut machine = Machine { state, known, variables: HashMap::new(), connected: false };
    let mut output = Vec::new();
    for (at, line) in script.lines().enumerate() {
        let outcome = tokens(line, &machine.variables)
            .and_then(|tokens| machine.statement(&tokens))
            .map_err(|reason| ScriptFault { line: at + 1, reason })?;
        output.extend(outcome);
    }
    Ok(output)
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Outside quotes.
    Word(String),
    /// A string, quotes undone.
    Text(String),
    /// One of `( ) { } |`.
    Mark(char),
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }
}

/// PowerShell takes typographic quotes for quotes.
fn is_single(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}')
}

fn is_double(c: char) -> bool {
    matches!(c, '"' | '\u{201c}' | '\u{201d}' | '\u{201e}')
}

/// Takes a line apart.
fn tokens(line: &str, variables: &HashMap<String, String>) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(&c) = rest.peek() {
        if c.is_whitespace() || c == ',' {
            rest.next();
        } else if c == '#' {
            break;
        } else if is_single(c) || is_double(c) {
            let same = if is_single(c) { is_single } else { is_double };
            rest.next();
            let mut text = String::new();
            loop {
                let c = rest.next().ok_or("a string without an end")?;
                if !same(c) {
                    text.push(c);
                } else if rest.peek().is_some_and(|next| same(*next)) {
                    rest.next();
                    text.push(c); // doubled: one of them
                } else {
                    break;
                }
            }
            found.push(Token::Text(if is_double(c) { expand(&text, variables)? } else { text }));
        } else if "(){}|".contains(c) {
            rest.next();
            found.push(Token::Mark(c));
        } else if ";&`<>@".contains(c) {
            return Err(format!("{c} is not understood here"));
        } else {
            let mut word = String::new();
            while let Some(&c) = rest.peek() {
                if c.is_whitespace() || "(){}|;,#".contains(c) || is_single(c) || is_double(c) {
                    break;
                }
                word.push(c);
                rest.next();
            }
            found.push(Token::Word(word));
        }
    }
    Ok(found)
}

/// Puts variables into a string with double quotes.
fn expand(text: &str, variables: &HashMap<String, String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut parts = text.split('$');
    expanded.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        let (name, after) = part.split_at(end);
        let value = variables.get(name).ok_or_else(|| format!("${name} is not set"))?;
        expanded.push_str(value);
        expanded.push_str(after);
    }
    Ok(expanded)
}

struct Machine<'m, 'k> {
    state: &'m mut State,
    known: &'m Known<'k>,
    variables: HashMap<String, String>,
    connected: bool,
}

impl Machine<'_, '_> {
    fn statement(&mut self, tokens: &[Token]) -> Result<Vec<String>, String> {
        match tokens {
            [] => Ok(Vec::new()),
            [Token::Word(variable), equals, value @ ..]
                if variable.starts_with('$') && equals.is_word("=") =>
            {
                let value = self.value(value)?;
                self.variables.insert(variable[1..].to_owned(), value);
                Ok(Vec::new())
            }
            [word, condition @ ..] if word.is_word("if") => self.conditional(condition),
            tokens => self.pipeline(tokens),
        }
    }

    /// A string, or `(command).DistinguishedName`, with `.Replace(a b)` or without.
    fn value(&mut self, tokens: &[Token]) -> Result<String, String> {
        if let [Token::Text(text)] = tokens {
            return Ok(text.clone());
        }
        let (inner, rest) = enclosed(tokens, '(', ')')?;
        let found = self.pipeline(inner)?;
        let [found] = found.as_slice() else { return Err("the command found nothing".into()) };
        let name = found.replace(' ', "-");
        let distinguished = format!("CN={name},OU=sandbox.example,DC=PROD,DC=OUTLOOK,DC=COM");
        match rest {
            [Token::Word(property)] if property == ".DistinguishedName" => Ok(distinguished),
            [Token::Word(call), arguments @ ..] if call == ".DistinguishedName.Replace" => {
                match enclosed(arguments, '(', ')')? {
                    ([Token::Text(from), Token::Text(to)], []) => {
                        Ok(distinguished.replace(from.as_str(), to))
                    }
                    _ => Err("Replace takes two strings".into()),
                }
            }
            _ => Err("this value is not understood".into()),
        }
    }

    fn conditional(&mut self, tokens: &[Token]) -> Result<Vec<String>, String> {
        let (condition, rest) = enclosed(tokens, '(', ')')?;
        let (body, []) = enclosed(rest, '{', '}')? else {
            return Err("something stands behind the body".into());
        };
        let met = match condition {
            [not, inner @ ..] if not.is_word("-not") => {
                let (inner, []) = enclosed(inner, '(', ')')? else {
                    return Err("something stands behind the condition".into());
                };
                self.pipeline(inner)?.is_empty()
            }
            condition => !self.pipeline(condition)?.is_empty(),
        };
        if met { self.pipeline(body) } else { Ok(Vec::new()) }
    }

    fn pipeline(&mut self, tokens: &[Token]) -> Result<Vec<String>, String> {
        let mut stages = tokens.split(|token| *token == Token::Mark('|'));
        let mut found = self.command(stages.next().unwrap_or_default())?;
        for stage in stages {
            match stage {
                [word, ..] if word.is_word("Format-List") => {}
                [word, filter @ ..] if word.is_word("Where-Object") => {
                    let (filter, _) = enclosed(filter, '{', '}')?;
                    let [Token::Word(property), equals, Token::Text(wanted)] = filter else {
                        return Err("this filter is not understood".into());
                    };
                    let principals = &self.state.principals;
                    let is = |value: &str| value.eq_ignore_ascii_case(wanted);
                    match property.as_str() {
                        "$_.PrimarySmtpAddress" if equals.is_word("-eq") => {
                            found.retain(|one| is(one));
                        }
                        "$_.AppId" if equals.is_word("-eq") => {
                            found.retain(|one| principals.get(one).is_some_and(|app| is(app)));
                        }
                        _ => return Err("this filter is not understood".into()),
                    }
                }
                _ => return Err("only Format-List and Where-Object take what was found".into()),
            }
        }
        Ok(found)
    }

    fn command(&mut self, tokens: &[Token]) -> Result<Vec<String>, String> {
        let Some((Token::Word(name), arguments)) = tokens.split_first() else {
            return Err("no command stands here".into());
        };
        let call = cmdlets::Call::read(name, arguments)?;
        if call.is("Connect-ExchangeOnline") {
            self.connected = true;
        } else if !self.connected {
            return Err(format!("{name}: Connect-ExchangeOnline has to come first"));
        }
        call.carry_out(self.state, self.known)
    }
}

/// What stands between two marks, and what follows.
fn enclosed(tokens: &[Token], open: char, close: char) -> Result<(&[Token], &[Token]), String> {
    if tokens.first() != Some(&Token::Mark(open)) {
        return Err(format!("{open} is missing"));
    }
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if *token == Token::Mark(open) {
            depth += 1;
        } else if *token == Token::Mark(close) {
            depth -= 1;
            if depth == 0 {
                return Ok((&tokens[1..at], &tokens[at + 1..]));
            }
        }
    }
    Err(format!("{close} is missing"))
}
