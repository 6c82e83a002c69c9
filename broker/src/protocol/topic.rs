//! Topic names and topic filters: their rules, and when one matches the other.

use super::Violation;

/// Most levels a filter may have. Filters are kept as trees that are walked recursively.
pub(crate) const MAX_FILTER_LEVELS: usize = 128;

/// Checks a topic name: UTF-8, not empty, no NUL, no wildcard.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn name(bytes: &[u8]) -> Result<&str, Violation> {
    let topic = str::from_utf8(bytes).map_err(|_| Violation::Text)?;
    if topic.is_empty() {
        return Err(Violation::Topic);
    }
    for byte in bytes {
        match byte {
            0 => return Err(Violation::Text),
            b'+' | b'#' => return Err(Violation::Topic),
            _ => {}
        }
    }
    Ok(topic)
}

/// Checks a filter: not empty, no NUL, `#` alone on the last level, `+` alone on its level.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn filter(filter: &str) -> Result<(), Violation> {
    if filter.contains('\0') {
        return Err(Violation::Text);
    }
    if filter.is_empty() {
        return Err(Violation::Filter);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        let misplaced = level == "#" && levels.peek().is_some();
        if wild && level.len() > 1 || misplaced {
            return Err(Violation::Filter);
        }
    }
    Ok(())
}

/// Tells whether the broker serves a filter that is right by the rules.
///
/// Shared subscriptions are not served, and a filter's depth is limited; SUBACK then says failure.
pub(crate) fn is_served(filter: &str) -> bool {
    let shared = filter == "$share" || filter.starts_with("$share/");
    !shared && filter.split('/').count() <= MAX_FILTER_LEVELS
}

/// Tells whether `topic` is the broker's own, out of reach of wildcards on the first level.
pub(crate) fn is_own(topic: &str) -> bool {
    topic.starts_with('$')
}
