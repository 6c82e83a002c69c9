//! Finds the filters that match a topic, in time that depends on the topic's levels and not on the number
//! of filters.
//!
//! A tree by level. Invariant: no node is empty except the root, so memory follows the filters that are in.
//! The depth is at most [`super::topic::MAX_FILTER_LEVELS`], which callers have checked.

use std::collections::HashMap;

/// Filters, each with the values of those who have it, told apart by key.
#[derive(Debug)]
pub(crate) struct FilterIndex<K, V> {
    root: Node<K, V>,
}

#[derive(Debug)]
struct Node<K, V> {
    children: HashMap<Box<str>, Node<K, V>>,
    plus: Option<Box<Node<K, V>>>,
    /// Filters that end here.
    here: Vec<(K, V)>,
    /// Filters that end here with `#`.
    below: Vec<(K, V)>,
}

impl<K, V> Default for Node<K, V> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            plus: None,
            here: Vec::new(),
            below: Vec::new(),
        }
    }
}

impl<K, V> Default for FilterIndex<K, V> {
    fn default() -> Self {
        Self {
            root: Node::default(),
        }
    }
}

impl<K: Eq, V> FilterIndex<K, V> {
    /// Adds a filter of `key`, or replaces its value; returns the value replaced.
    pub(crate) fn insert(&mut self, filter: &str, key: K, value: V) -> Option<V> {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => return put(&mut node.below, key, value),
                "+" => node.plus.get_or_insert_default(),
                name => node.children.entry(name.into()).or_default(),
            };
        }
        put(&mut node.here, key, value)
    }

    /// Removes a filter of `key` and returns its value.
    pub(crate) fn remove(&mut self, filter: &str, key: &K) -> Option<V> {
        remove(&mut self.root, filter.split('/'), key)
    }

    /// Calls `found` for every filter that matches, once per filter and key.
    pub(crate) fn for_each_match<'a>(&'a self, topic: &str, mut found: impl FnMut(&'a K, &'a V)) {
        let own = super::topic::is_own(topic);
        visit(&self.root, topic.split('/'), own, &mut found);
    }
}

impl<K, V> Node<K, V> {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.plus.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

fn put<K: Eq, V>(list: &mut Vec<(K, V)>, key: K, value: V) -> Option<V> {
    if let Some((_, there)) = list.iter_mut().find(|(other, _)| *other == key) {
        return Some(std::mem::replace(there, value));
    }
    list.push((key, value));
    None
}

fn take<K: Eq, V>(list: &mut Vec<(K, V)>, key: &K) -> Option<V> {
    let index = list.iter().position(|(other, _)| other == key)?;
    Some(list.swap_remove(index).1)
}

fn remove<'f, K: Eq, V>(
    node: &mut Node<K, V>,
    mut levels: impl Iterator<Item = &'f str>,
    key: &K,
) -> Option<V> {
    match levels.next() {
        None => take(&mut node.here, key),
        Some("#") => take(&mut node.below, key),
        Some("+") => {
            let child = node.plus.as_mut()?;
            let removed = remove(child, levels, key);
            if child.is_empty() {
                node.plus = None;
            }
            removed
        }
        Some(name) => {
            let child = node.children.get_mut(name)?;
            let removed = remove(child, levels, key);
            if child.is_empty() {
                node.children.remove(name);
            }
            removed
        }
    }
}

/// `own` holds on the first level only: there, wildcards do not match the broker's own topics.
fn visit<'a, 't, K, V>(
    node: &'a Node<K, V>,
    mut levels: impl Iterator<Item = &'t str> + Clone,
    own: bool,
    found: &mut impl FnMut(&'a K, &'a V),
) {
    let mut each = |list: &'a [(K, V)]| list.iter().for_each(|(key, value)| found(key, value));
    if !own {
        each(&node.below);
    }
    let Some(level) = levels.next() else {
        each(&node.here);
        return;
    };
    if let Some(child) = node.children.get(level) {
        visit(child, levels.clone(), false, found);
    }
    if let Some(child) = node.plus.as_deref().filter(|_| !own) {
        visit(child, levels, false, found);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic;
    use super::*;

    /// The standard's words, level by level.
    fn oracle(filter: &str, topic: &str) -> bool {
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let filter: Vec<_> = filter.split('/').collect();
        let topic: Vec<_> = topic.split('/').collect();
        match filter.iter().position(|level| *level == "#") {
            Some(parents) => {
                topic.len() >= parents
                    && filter
                        .iter()
                        .zip(&topic)
                        .take(parents)
                        .all(|(f, t)| f == t || *f == "+")
            }
            None => {
                filter.len() == topic.len()
                    && filter.iter().zip(&topic).all(|(f, t)| f == t || *f == "+")
            }
        }
    }

    fn matches(filters: &[String], topic: &str) -> Vec<usize> {
        let mut index = FilterIndex::default();
        for (key, filter) in filters.iter().enumerate() {
            index.insert(filter, key, ());
        }
        let mut found = Vec::new();
        index.for_each_match(topic, |key, ()| found.push(*key));
        found.sort_unstable();
        found
    }

    #[test]
    fn the_standards_examples_hold() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/ranking",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(oracle(filter, topic), expected, "oracle {filter} {topic}");
            let found = !matches(&[filter.to_owned()], topic).is_empty();
            assert_eq!(found, expected, "{filter} {topic}");
        }
    }

    #[test]
    fn filters_that_break_the_rules_are_refused() {
        for filter in ["", "a#", "a/#/b", "#/", "a+", "+a/b", "a/++", "a\0"] {
            assert!(topic::filter(filter).is_err(), "{filter}");
        }
        for filter in ["/", "#", "+", "+/+/#", "a//b", "/#", "$SYS/#"] {
            assert_eq!(topic::filter(filter), Ok(()), "{filter}");
        }
        let deep = "/".repeat(topic::MAX_FILTER_LEVELS);
        assert_eq!(topic::wish(&deep), topic::Wish::Refused);
    }

    fn level() -> impl Strategy<Value = String> {
        prop_oneof![Just("a"), Just("b"), Just(""), Just("$x")].prop_map(str::to_owned)
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
        (proptest::collection::vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, below)| {
            if below {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_oracle(
            filters in proptest::collection::vec(filter(), 1..8),
            levels in proptest::collection::vec(level(), 1..6),
        ) {
            let topic = levels.join("/");
            let expected: Vec<_> = (0..filters.len()).filter(|i| oracle(&filters[*i], &topic)).collect();
            prop_assert_eq!(matches(&filters, &topic), expected);
        }

        #[test]
        fn removing_all_leaves_nothing(filters in proptest::collection::vec(filter(), 1..8)) {
            let mut index = FilterIndex::default();
            for (key, filter) in filters.iter().enumerate() {
                prop_assert_eq!(index.insert(filter, key, key), None);
                prop_assert_eq!(index.insert(filter, key, key + 1), Some(key));
            }
            for (key, filter) in filters.iter().enumerate() {
                prop_assert_eq!(index.remove(filter, &key), Some(key + 1));
                prop_assert_eq!(index.remove(filter, &key), None);
            }
            prop_assert!(index.root.is_empty());
        }
    }
}
