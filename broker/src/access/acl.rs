//! The ACL file: who may read and write which topics, and under which client ids.
//!
//! Line by line, first match wins, no match denies. The format is described in docs/formats.md.
//!
//! Invariants: a filter is granted only if every topic it has is allowed: a rule that denies any of them comes
//! before the one that allows all of them, or the answer is no. A name never widens a rule it is put into: one
//! that holds a wildcard or a level separator is refused where a rule would use it.

use super::FileError;
use super::filters::{covers, meet};
use crate::protocol::topic;

/// First line of the file.
const HEAD: &str = "lastmile-acl 1";

/// The rules of the file.
#[derive(Debug, Default)]
pub(super) struct Acl {
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    whom: Whom,
    rules: Vec<Rule>,
    client_ids: Vec<String>,
}

/// For whom a section is.
#[derive(Debug, PartialEq, Eq)]
enum Whom {
    All,
    Anonymous,
    Users,
    User(String),
}

impl Whom {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.trim() {
            "all" => Self::All,
            "anonymous" => Self::Anonymous,
            "users" => Self::Users,
            text => {
                let name = text.strip_prefix("user ")?.trim();
                (!name.is_empty()).then(|| Self::User(name.to_owned()))?
            }
        })
    }

    fn holds(&self, user: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Anonymous => user.is_none(),
            Self::Users => user.is_some(),
            Self::User(name) => user == Some(name),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Write,
}

/// One line: allows or denies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allows: bool,
    read: bool,
    write: bool,
    filter: String,
}

/// The rules that hold for one client, with its names put in.
#[derive(Debug, Default)]
pub(super) struct ClientRules(Vec<Rule>);

/// Why no rules can be made for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its user may not use this client id, or a rule cannot take it.
    ClientId,
    /// A rule cannot take the user's name.
    User,
}

impl Acl {
    /// Reads the text of the file `path`, which is for messages only.
    pub(super) fn parse(path: &std::path::Path, text: &str) -> Result<Self, FileError> {
        let mut lines = super::lines(text);
        let wrong = |line, message: String| FileError::at(path, line, message);
        if lines.next().is_none_or(|(_, first)| first != HEAD) {
            return Err(wrong(1, format!("the first line is to be `{HEAD}`")));
        }
        let mut sections: Vec<Section> = Vec::new();
        for (number, line) in lines {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                let whom = Whom::parse(name).ok_or_else(|| {
                    let known = "[all], [anonymous], [users] or [user NAME]";
                    wrong(number, format!("`{line}` is no section; give {known}"))
                })?;
                sections.push(Section {
                    whom,
                    rules: Vec::new(),
                    client_ids: Vec::new(),
                });
                continue;
            }
            let Some(section) = sections.last_mut() else {
                return Err(wrong(number, "a section is to come first, as [all]".into()));
            };
            if let Some(pattern) = line.strip_prefix("client ") {
                section.client_ids.push(pattern.trim().to_owned());
            } else {
                let rule = Rule::parse(line).map_err(|message| wrong(number, message))?;
                section.rules.push(rule);
            }
        }
        Ok(Self { sections })
    }

    /// Returns what holds for a client.
    pub(super) fn for_client(
        &self,
        user: Option<&str>,
        client_id: &str,
    ) -> Result<ClientRules, Unfit> {
        let mut rules = Vec::new();
        let (mut bound, mut fits) = (false, false);
        for section in self
            .sections
            .iter()
            .filter(|section| section.whom.holds(user))
        {
            for pattern in &section.client_ids {
                bound = true;
                fits |= is_pattern_of(pattern, user.unwrap_or_default(), client_id);
            }
            for rule in &section.rules {
                if let Some(filter) = fill(&rule.filter, user, client_id)? {
                    rules.push(Rule {
                        filter,
                        ..rule.clone()
                    });
                }
            }
        }
        if bound && !fits {
            return Err(Unfit::ClientId);
        }
        Ok(ClientRules(rules))
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self, String> {
        let usage = || {
            format!(
                "`{line}` is no rule; give allow or deny, then read, write or readwrite, then a filter"
            )
        };
        let (verb, rest) = line.split_once(' ').ok_or_else(usage)?;
        let (action, filter) = rest.trim_start().split_once(' ').ok_or_else(usage)?;
        let allows = match verb {
            "allow" => true,
            "deny" => false,
            _ => return Err(usage()),
        };
        let (read, write) = match action {
            "read" => (true, false),
            "write" => (false, true),
            "readwrite" => (true, true),
            _ => return Err(usage()),
        };
        let filter = filter.trim();
        let sample = fill(filter, Some("u"), "c").ok().flatten();
        if sample.is_none_or(|sample| topic::filter(&sample).is_err()) {
            return Err(format!("`{filter}` is no filter"));
        }
        Ok(Self {
            allows,
            read,
            write,
            filter: filter.to_owned(),
        })
    }

    fn is_about(&self, action: Action) -> bool {
        match action {
            Action::Read => self.read,
            Action::Write => self.write,
        }
    }
}

impl ClientRules {
    /// Tells whether every topic of `filter` is allowed.
    pub(super) fn allow(&self, action: Action, filter: &str) -> bool {
        let mut rules = self.0.iter().filter(|rule| rule.is_about(action));
        let decides = rules.find(|rule| {
            if rule.allows {
                covers(&rule.filter, filter)
            } else {
                meet(&rule.filter, filter)
            }
        });
        decides.is_some_and(|rule| rule.allows)
    }
}

/// Puts the names into a filter: `%u`, `%c`, and `%%` for `%`. `None` when it wants a user and there is none.
fn fill(filter: &str, user: Option<&str>, client_id: &str) -> Result<Option<String>, Unfit> {
    let wild = |name: &str| name.contains(['/', '+', '#']);
    let mut filled = String::with_capacity(filter.len());
    let mut rest = filter;
    while let Some((before, after)) = rest.split_once('%') {
        filled.push_str(before);
        let mut after = after.chars();
        match after.next() {
            Some('u') => match user {
                None => return Ok(None),
                Some(user) if wild(user) => return Err(Unfit::User),
                Some(user) => filled.push_str(user),
            },
            Some('c') if wild(client_id) => return Err(Unfit::ClientId),
            Some('c') => filled.push_str(client_id),
            Some('%') => filled.push('%'),
            other => {
                filled.push('%');
                filled.extend(other);
            }
        }
        rest = after.as_str();
    }
    filled.push_str(rest);
    Ok(Some(filled))
}

/// Tells whether a client id is one of a pattern: `%u` is the user, `*` at the end is anything.
fn is_pattern_of(pattern: &str, user: &str, client_id: &str) -> bool {
    let mut wanted = String::new();
    let (stem, open) = match pattern.strip_suffix('*') {
        Some(stem) => (stem, true),
        None => (pattern, false),
    };
    for (index, part) in stem.split("%u").enumerate() {
        let user = if index > 0 { user } else { "" };
        wanted.push_str(user);
        wanted.push_str(part);
    }
    if open {
        client_id.starts_with(&wanted)
    } else {
        client_id == wanted
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<Acl, FileError> {
        Acl::parse(Path::new("acl"), text)
    }

    const SAMPLE: &str = "
        # who may do what
        lastmile-acl 1
        [all]
        deny readwrite secret/#
        [anonymous]
        allow read public/#
        [users]
        allow write deliveries/%u/location
        allow read deliveries/%u/#
        [user boss]
        allow readwrite #
        [user truck-7]
        client %u-*
        client spare
        allow read group/%c
    ";

    fn rules(user: Option<&str>, client_id: &str) -> ClientRules {
        parse(SAMPLE).unwrap().for_client(user, client_id).unwrap()
    }

    #[test]
    fn the_first_rule_that_matters_decides() {
        use Action::{Read, Write};
        let truck = rules(Some("truck-7"), "truck-7-a");
        let granted = [
            (Write, "deliveries/truck-7/location"),
            (Read, "deliveries/truck-7/#"),
            (Read, "deliveries/truck-7/+"),
            (Read, "group/truck-7-a"),
        ];
        for (action, filter) in granted {
            assert!(truck.allow(action, filter), "{filter}");
        }
        let denied = [
            (Read, "#"),
            (Read, "+/truck-7/#"),
            (Read, "deliveries/#"),
            (Read, "deliveries/+/location"),
            (Read, "deliveries/truck-8/location"),
            (Write, "deliveries/truck-8/location"),
            (Write, "deliveries/truck-7/x"),
            (Read, "public/a"),
            (Read, "$SYS/#"),
        ];
        for (action, filter) in denied {
            assert!(!truck.allow(action, filter), "{filter}");
        }
        let anonymous = rules(None, "x");
        assert!(anonymous.allow(Read, "public/+"));
        assert!(!anonymous.allow(Write, "public/a"));
        let boss = rules(Some("boss"), "b");
        assert!(boss.allow(Write, "any/thing") && boss.allow(Read, "a/#"));
        // All of it would show what is denied.
        assert!(!boss.allow(Read, "#") && !boss.allow(Read, "+/x"));
        assert!(!boss.allow(Read, "$SYS/x"));
    }

    #[test]
    fn client_ids_are_bound_to_their_users() {
        let acl = parse(SAMPLE).unwrap();
        for good in ["truck-7-", "truck-7-a", "spare"] {
            assert!(acl.for_client(Some("truck-7"), good).is_ok(), "{good}");
        }
        for bad in ["truck-7", "truck-8-a", "spare2", ""] {
            let refused = acl.for_client(Some("truck-7"), bad);
            assert_eq!(refused.err(), Some(Unfit::ClientId), "{bad}");
        }
        assert!(acl.for_client(Some("other"), "whatever").is_ok());
    }

    #[test]
    fn a_name_does_not_widen_a_rule() {
        let acl = parse(SAMPLE).unwrap();
        for user in ["+", "#", "a/b", "x+"] {
            assert_eq!(acl.for_client(Some(user), "c").err(), Some(Unfit::User));
        }
        let wild = acl.for_client(Some("truck-7"), "truck-7-/#");
        assert_eq!(wild.err(), Some(Unfit::ClientId));
        // Put in literally: nothing in a name is looked at again.
        let odd = rules(Some("%c%u"), "x");
        assert!(odd.allow(Action::Read, "deliveries/%c%u/#"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("", "acl:1:"),
            ("lastmile-acl 2", "acl:1:"),
            ("lastmile-acl 1\nallow read #", "acl:2:"),
            ("lastmile-acl 1\n[some]", "acl:2:"),
            ("lastmile-acl 1\n[user ]", "acl:2:"),
            ("lastmile-acl 1\n[all]\n\nallow read", "acl:4:"),
            ("lastmile-acl 1\n[all]\nallow see #", "acl:3:"),
            ("lastmile-acl 1\n[all]\npermit read #", "acl:3:"),
            ("lastmile-acl 1\n[all]\nallow read a/#/b", "acl:3:"),
            ("lastmile-acl 1\n[all]\nallow read a%u+", "acl:3:"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
