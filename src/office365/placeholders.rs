//! Cures carry placeholders, `{name}`, so that the text shown holds the ids of the tenant at hand.

/// Replaces each `{name}` that `value_of` knows; others stay as they are.
pub(super) fn fill<'a>(text: &'a str, value_of: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, placeholder)) = rest.split_once('{') {
        filled.push_str(before);
        let known =
            placeholder.split_once('}').and_then(|(name, after)| Some((value_of(name)?, after)));
        let (value, after) = known.unwrap_or(("{", placeholder));
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    filled
}
