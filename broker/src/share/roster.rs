//! Who is a member of a group, connected or not, and the metadata of the group's cursor.
//!
//! Bounded: [`MAX_MEMBERS`], because the metadata are written with every persist of the cursors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::session::Options;

/// Most members of a group, connected or not; further ones get SUBACK failure.
pub(super) const MAX_MEMBERS: usize = 256;
/// Version of the metadata.
const VERSION: u32 = 1;

/// The metadata of a group's cursor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: u32,
    /// First sequence that was never sent; `None` while a member is connected, and so after a crash.
    sent_to: Option<u64>,
    /// Whether the group waits for members; not written when it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    held: bool,
    /// Members with persistent sessions.
    members: Vec<Member>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Member {
    client_id: String,
    #[serde(flatten)]
    options: Options,
}

/// Why metadata cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum MetaError {
    #[error("the metadata cannot be read")]
    Json(#[from] serde_json::Error),
    #[error("the metadata are of version {0}, and this program knows {VERSION}")]
    Version(u32),
}

/// The members of a group.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Members with persistent sessions and what they were granted.
    persistent: BTreeMap<Arc<str>, Options>,
    /// Members that are connected, with their numbers.
    connected: HashMap<Arc<str>, u64>,
    sent_to: Option<u64>,
    /// Whether the group lasts without members.
    held: bool,
}

impl Roster {
    /// Reads the metadata of a cursor.
    ///
    /// # Errors
    /// When another version wrote them.
    pub(super) fn from_meta(meta: &[u8]) -> Result<Self, MetaError> {
        let Meta {
            version,
            sent_to,
            held,
            members,
        } = serde_json::from_slice(meta)?;
        if version != VERSION {
            return Err(MetaError::Version(version));
        }
        let members = members.into_iter();
        Ok(Self {
            persistent: members.map(|m| (m.client_id.into(), m.options)).collect(),
            connected: HashMap::new(),
            sent_to,
            held,
        })
    }

    /// Returns the metadata for the cursor.
    pub(super) fn to_meta(&self) -> Bytes {
        let members = self.persistent.iter().map(|(client_id, options)| Member {
            client_id: client_id.to_string(),
            options: *options,
        });
        let meta = Meta {
            version: VERSION,
            sent_to: self.sent_to,
            held: self.held,
            members: members.collect(),
        };
        let json = serde_json::to_vec(&meta).expect("numbers and texts have a JSON form");
        json.into()
    }

    /// Returns the first sequence that was never sent, if no member was connected when that was noted.
    pub(super) fn sent_to(&self) -> Option<u64> {
        self.sent_to
    }

    /// Notes up to where records were sent: `None` while a member is connected.
    pub(super) fn set_sent_to(&mut self, sent_to: Option<u64>) {
        self.sent_to = sent_to;
    }

    /// Tells whether the group lasts without members.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Says whether the group lasts without members.
    pub(super) fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Tells whether there is room for a member, or it is one.
    pub(super) fn admits(&self, client_id: &str) -> bool {
        let clean = |id: &&Arc<str>| !self.persistent.contains_key(*id);
        self.persistent.contains_key(client_id)
            || self.connected.contains_key(client_id)
            || self.persistent.len() + self.connected.keys().filter(clean).count() < MAX_MEMBERS
    }

    /// Returns what a member with a persistent session was granted.
    pub(super) fn granted(&self, client_id: &str) -> Option<Options> {
        self.persistent.get(client_id).copied()
    }

    /// Adds a member with a persistent session, or changes what it is granted.
    pub(super) fn enrol(&mut self, client_id: &Arc<str>, options: Options) {
        self.persistent.insert(Arc::clone(client_id), options);
    }

    /// Removes a member with a persistent session; tells whether it was one.
    pub(super) fn strike(&mut self, client_id: &str) -> bool {
        self.persistent.remove(client_id).is_some()
    }

    /// Returns the members with persistent sessions.
    pub(super) fn persistent(&self) -> impl Iterator<Item = &Arc<str>> {
        self.persistent.keys()
    }

    /// Notes that a member is connected.
    pub(super) fn connect(&mut self, client_id: &Arc<str>, number: u64) {
        self.connected.insert(Arc::clone(client_id), number);
    }

    /// Notes that a member is no longer connected.
    pub(super) fn disconnect(&mut self, client_id: &str, number: u64) {
        if self.connected.get(client_id) == Some(&number) {
            self.connected.remove(client_id);
        }
    }

    /// Tells whether a member is connected.
    pub(super) fn has_connected(&self) -> bool {
        !self.connected.is_empty()
    }

    /// Tells whether the group is to end: it has no member at all and does not wait for any.
    pub(super) fn is_over(&self) -> bool {
        self.connected.is_empty() && self.persistent.is_empty() && !self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qos(qos: u8) -> Options {
        Options {
            qos,
            ..Options::default()
        }
    }

    #[test]
    fn metadata_round_trip_and_other_versions_are_refused() {
        let mut roster = Roster::default();
        roster.enrol(&"a".into(), qos(1));
        roster.enrol(&"b \"/é".into(), qos(0));
        roster.set_sent_to(Some(7));
        let meta = roster.to_meta();
        assert_eq!(
            str::from_utf8(&meta).unwrap(),
            r#"{"version":1,"sent_to":7,"members":[{"client_id":"a","qos":1},{"client_id":"b \"/é","qos":0}]}"#
        );
        let read = Roster::from_meta(&meta).unwrap();
        assert_eq!(read.persistent, roster.persistent);
        assert_eq!(read.sent_to(), Some(7));
        assert!(!read.is_held());
        roster.set_held(true);
        let read = Roster::from_meta(&roster.to_meta()).unwrap();
        assert!(read.is_held());
        assert_eq!(read.persistent, roster.persistent);
        let newer = br#"{"version":2,"sent_to":null,"members":[]}"#;
        assert!(matches!(
            Roster::from_meta(newer),
            Err(MetaError::Version(2))
        ));
        assert!(matches!(Roster::from_meta(b"{}"), Err(MetaError::Json(_))));
    }

    #[test]
    fn members_are_bounded() {
        let mut roster = Roster::default();
        for number in 0..MAX_MEMBERS / 2 {
            let id: Arc<str> = number.to_string().into();
            roster.enrol(&id, qos(1));
            roster.connect(&id, 1);
            roster.connect(&format!("clean {number}").into(), 1);
        }
        assert!(!roster.admits("one more"));
        assert!(roster.admits("0") && roster.admits("clean 0"));
        roster.disconnect("clean 0", 1);
        assert!(roster.admits("one more"));
    }
}
