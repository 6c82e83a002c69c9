//! Consumers: what they were given, and what they have said of it.

use std::collections::{BTreeMap, BTreeSet};

use super::client::Answer;
use super::message::{Kind, PUBLISHERS, read};
use crate::protocol::Version;
use crate::simulation::wire::{Message, PUBACK, PUBREC};

/// What matches the topics of plain messages, of retained ones, and of both.
pub(super) const PLAIN: &str = "t/+";
pub(super) const RETAINED: &str = "t/+/r";
pub(super) const ALL: &str = "t/#";
/// What matches the topics of messages that expire soon, and of wills.
pub(super) const FLEETING: &str = "x/#";
pub(super) const WILLS: &str = "w/#";

/// Receives numbers.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) filter: String,
    pub(super) qos: u8,
    /// Members of a group are judged together.
    pub(super) shared: bool,
    /// Whether what was retained counts.
    pub(super) wants_retained: bool,
    /// Whether it is to be subscribed.
    pub(super) wish: bool,
    /// The highest number of each publisher when the subscription was there; `None` before, and when it has ended.
    pub(super) since: Option<[u64; PUBLISHERS]>,
    /// The same of the first subscription of all; the group of a member is there from then on.
    pub(super) began: Option<[u64; PUBLISHERS]>,
    /// When the subscription was there.
    pub(super) since_ms: u64,
    /// The highest number of each publisher when the subscription had ended; `None` when another is asked for.
    pub(super) until: Option<[u64; PUBLISHERS]>,
    /// How often each message was given to the application.
    pub(super) given: BTreeMap<(usize, u64), u32>,
    /// What was acknowledged by this client, the answer on its way.
    pub(super) processed: BTreeSet<(usize, u64)>,
    highest: [u64; PUBLISHERS],
    /// Ids of messages with QoS 2 whose PUBREL has not come.
    pub(super) held: BTreeSet<u16>,
    /// Topics by the alias the broker set on this connection.
    pub(super) aliases: BTreeMap<u16, String>,
}

impl Consumer {
    pub(super) fn new(filter: &str, qos: u8) -> Self {
        Self {
            filter: filter.to_owned(),
            qos,
            shared: filter.starts_with("$share/"),
            wants_retained: filter == RETAINED,
            wish: true,
            since: None,
            began: None,
            since_ms: 0,
            until: None,
            given: BTreeMap::new(),
            processed: BTreeSet::new(),
            highest: [0; PUBLISHERS],
            held: BTreeSet::new(),
            aliases: BTreeMap::new(),
        }
    }

    /// Returns the options it subscribes with: it may have to ask twice, and what is retained is to come once.
    pub(super) fn options(&self, version: Version) -> u8 {
        let once = self.wants_retained && version == Version::V5;
        self.qos | u8::from(once) << 4
    }

    /// Tells whether messages of a kind are for it.
    pub(super) fn wants(&self, kind: Kind) -> bool {
        match &*self.filter {
            PLAIN => kind == Kind::Plain,
            RETAINED => kind == Kind::Retained,
            FLEETING => kind == Kind::Fleeting,
            WILLS => kind == Kind::Will,
            // ALL, and groups of it.
            _ => matches!(kind, Kind::Plain | Kind::Retained),
        }
    }

    /// All begins anew: the broker's session ended.
    pub(super) fn forget(&mut self) {
        let mut new = Self::new(&self.filter, self.qos);
        new.wish = self.wish;
        if self.shared {
            new.began = self.began;
            new.processed = std::mem::take(&mut self.processed);
        }
        *self = new;
    }

    /// Takes a message; tells the application what is new to it.
    pub(super) fn give(&mut self, message: &Message) -> Result<Answer, String> {
        if message.alias > 0 && !message.topic.is_empty() {
            self.aliases.insert(message.alias, message.topic.clone());
        }
        let topic = match &*message.topic {
            "" => self.aliases.get(&message.alias).map_or("", |topic| topic),
            topic => topic,
        };
        let (kind, key) = read(message, topic)?;
        if !self.wants(kind) {
            return Err(format!("it did not ask for {topic}"));
        }
        let (publisher, number) = key;
        if let Some(until) = self.until.filter(|until| number > until[publisher]) {
            return Err(format!("{key:?} came after UNSUBACK, {until:?}"));
        }
        let is_new = message.qos < 2 || self.held.insert(message.id);
        // What was retained comes out of order, and besides.
        let counts = !message.retain || self.wants_retained;
        if is_new && counts {
            let count = self.given.entry(key).or_default();
            *count += 1;
            // What was published before the subscription may be published again behind it.
            let is_owed = self.since.is_some_and(|since| number > since[publisher]);
            // The first copy of one that expires may have expired, and that of the next not.
            let is_ordered = !self.shared && !matches!(kind, Kind::Will | Kind::Fleeting);
            if *count == 1 && is_owed && is_ordered {
                if number <= self.highest[publisher] {
                    return Err(format!(
                        "{number} of publisher {publisher} came after {}",
                        self.highest[publisher]
                    ));
                }
                self.highest[publisher] = number;
            }
        }
        if message.qos == 2 && counts {
            self.processed.insert(key);
        }
        Ok(Answer {
            processed: (message.qos == 1 && counts).then_some(key),
            ..Answer::new(if message.qos == 2 { PUBREC } else { PUBACK }, message.id)
        })
    }
}
