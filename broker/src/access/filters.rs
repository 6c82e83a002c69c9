//! Filters as sets of topics: whether one holds another, and whether two meet.
//!
//! Invariants: [`covers`] never says yes to what is not so, [`meet`] never says no to what is not so; access is
//! decided on the safe side. A filter that begins with a wildcard has no topic that begins with `$`
//! [MQTT-4.7.2-1].

/// Tells whether every topic of `inner` is one of `outer`. A topic name is the filter of itself alone.
///
/// Says no to a few equal sets that are spelled differently: `+/#` for `#`.
pub(super) fn covers(outer: &str, inner: &str) -> bool {
    if begins_wild(outer) && inner.starts_with('$') {
        return false;
    }
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Tells whether some topic is one of both.
pub(super) fn meet(one: &str, other: &str) -> bool {
    if begins_wild(one) && other.starts_with('$') || begins_wild(other) && one.starts_with('$') {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

fn begins_wild(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every topic of up to four levels over a small alphabet; the empty one too, which no client can name, and which
    /// filters such as `/#` have all the same.
    fn topics() -> Vec<String> {
        let alphabet = ["a", "b", "", "$"];
        let mut topics: Vec<String> = alphabet.map(String::from).to_vec();
        let mut last = topics.clone();
        for _ in 0..3 {
            let longer = last
                .iter()
                .flat_map(|topic| alphabet.map(|level| format!("{topic}/{level}")));
            last = longer.collect();
            topics.extend_from_slice(&last);
        }
        topics
    }

    /// Matching as the standard says it, level by level.
    fn matches(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", rest @ ..], [_, others @ ..]) => matches(rest, others),
            ([level, rest @ ..], [other, others @ ..]) if level == other => matches(rest, others),
            _ => false,
        }
    }

    fn matched<'a>(filter: &str, topics: &'a [String]) -> Vec<&'a str> {
        let levels: Vec<_> = filter.split('/').collect();
        let chosen = topics.iter().filter(|topic| {
            let hidden = topic.starts_with('$') && begins_wild(filter);
            !hidden && matches(&levels, &topic.split('/').collect::<Vec<_>>())
        });
        chosen.map(String::as_str).collect()
    }

    fn filters() -> impl Strategy<Value = String> {
        let level = proptest::sample::select(vec!["a", "b", "", "$", "+"]);
        (proptest::collection::vec(level, 0..3), any::<bool>())
            .prop_map(|(mut levels, all)| {
                if all {
                    levels.push("#");
                }
                levels.join("/")
            })
            .prop_filter("a filter is not empty", |filter| !filter.is_empty())
    }

    proptest! {
        #[test]
        fn sets_relate_as_their_topics_do(one in filters(), other in filters()) {
            let topics = topics();
            let (mine, theirs) = (matched(&one, &topics), matched(&other, &topics));
            if covers(&one, &other) {
                prop_assert!(theirs.iter().all(|topic| mine.contains(topic)));
            }
            let shared = theirs.iter().any(|topic| mine.contains(topic));
            prop_assert_eq!(meet(&one, &other), shared);
            for topic in &topics {
                prop_assert_eq!(covers(&one, topic), mine.contains(&topic.as_str()));
            }
        }
    }

    #[test]
    fn what_is_beyond_a_rule_is_not_covered() {
        for (outer, inner) in [
            ("a/#", "#"),
            ("a/+", "a/#"),
            ("a/b", "a/+"),
            ("+/b", "#"),
            ("#", "$SYS/#"),
            ("+/x", "$SYS/x"),
            ("a/+", "a"),
            ("a", "a/b"),
        ] {
            assert!(!covers(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [
            ("#", "+/+"),
            ("a/#", "a"),
            ("a/#", "a/+/#"),
            ("$SYS/#", "$SYS/a"),
        ] {
            assert!(covers(outer, inner), "{outer} {inner}");
        }
    }
}
