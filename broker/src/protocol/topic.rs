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

/// Checks a response topic, a topic name [MQTT-3.3.2-14]; a wrong one is no topic name that is refused, but a wrong value.
///
/// # Errors
/// When it is none.
pub(crate) fn response(topic: &str) -> Result<(), Violation> {
    match name(topic.as_bytes()) {
        Ok(_) => Ok(()),
        Err(Violation::Topic) => Err(Violation::Protocol),
        Err(violation) => Err(violation),
    }
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

/// How a shared subscription begins.
const SHARE: &str = "$share/";

/// Checks a filter of SUBSCRIBE or UNSUBSCRIBE as far as a wrong one is to close the connection.
///
/// What begins as a shared subscription is right here if it is a text: [`wish`] tells the rest.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn requested(requested: &str) -> Result<(), Violation> {
    if requested.starts_with(SHARE) && !requested.contains('\0') {
        return Ok(());
    }
    filter(requested)
}

/// What a filter asks for that passed [`requested`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish<'a> {
    /// A subscription of its own.
    Plain,
    /// A place in a group.
    Shared(Share<'a>),
    /// Something that SUBACK says failure to: too many levels, or no valid shared subscription.
    Refused,
}

/// A shared subscription: `$share/<group>/<filter>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share<'a> {
    /// Group and filter as they were given, `<group>/<filter>`. The name of a group has no `/`, so no two
    /// shared subscriptions have the same key.
    pub(crate) key: &'a str,
    pub(crate) filter: &'a str,
}

/// Tells what a filter asks for.
pub(crate) fn wish(requested: &str) -> Wish<'_> {
    let Some(key) = requested.strip_prefix(SHARE) else {
        return if requested == "$share" || is_too_deep(requested) {
            Wish::Refused
        } else {
            Wish::Plain
        };
    };
    match key.split_once('/') {
        Some((group, shared))
            if !group.is_empty()
                && !group.contains(['+', '#'])
                && filter(shared).is_ok()
                && !is_too_deep(shared)
                && !shared.starts_with(SHARE) =>
        {
            Wish::Shared(Share {
                key,
                filter: shared,
            })
        }
        _ => Wish::Refused,
    }
}

fn is_too_deep(filter: &str) -> bool {
    filter.split('/').count() > MAX_FILTER_LEVELS
}

/// Tells whether `topic` is the broker's own, out of reach of wildcards on the first level.
pub(crate) fn is_own(topic: &str) -> bool {
    topic.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_subscriptions_have_a_name_and_a_filter() {
        let valid = [
            ("$share/g/a", "g/a", "a"),
            ("$share/g/#", "g/#", "#"),
            ("$share/g//", "g//", "/"),
            ("$share/g/a/+/b", "g/a/+/b", "a/+/b"),
            ("$share/$x/$SYS/#", "$x/$SYS/#", "$SYS/#"),
            ("$share/é t/a", "é t/a", "a"),
        ];
        for (text, key, filter) in valid {
            assert_eq!(requested(text), Ok(()), "{text}");
            assert_eq!(wish(text), Wish::Shared(Share { key, filter }), "{text}");
        }
        let deep = format!("$share/g/{}", "/".repeat(MAX_FILTER_LEVELS));
        let refused = [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/#",
            "$share/g+/a",
            "$share/g#/a",
            "$share/#/a",
            "$share/g/a#",
            "$share/g/#/a",
            "$share/g/a/b+",
            "$share/g/$share/h/a",
            &*deep,
        ];
        for share in refused {
            assert_eq!(requested(share), Ok(()), "{share}");
            assert_eq!(wish(share), Wish::Refused, "{share}");
        }
        assert_eq!(requested("$share/g/a\0"), Err(Violation::Text));
        for plain in ["$shared/g/a", "a/$share/g", "$sharex", "#"] {
            assert_eq!(wish(plain), Wish::Plain, "{plain}");
        }
    }
}
