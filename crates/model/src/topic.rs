//! The topics this project gives a meaning, and the format each carries.

use crate::DelivererId;

/// The filters a subscriber takes to receive everything this project stores.
pub const INGEST_FILTERS: [&str; 3] = [
    "deliveries/+/location",
    "fleet/+/events",
    "test/deliverer_data",
];

/// The group in which subscribers share what comes on [`INGEST_FILTERS`], and the name of the only one's session.
pub const INGEST_GROUP: &str = "lastmile-subscriber";

/// What a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKind<'a> {
    /// `deliveries/{deliverer_id}/location`: native JSON of that deliverer.
    Delivery {
        /// The level that names the deliverer, unchecked.
        deliverer_id: &'a str,
    },
    /// `test/deliverer_data`: native JSON, the deliverer only in the payload.
    Native,
    /// `fleet/{organization_id}/events`: door2door events.
    Fleet,
}

/// Returns what a topic carries, or `None` when this project stores nothing from it.
pub fn classify(topic: &str) -> Option<TopicKind<'_>> {
    if let Some(rest) = topic.strip_prefix("deliveries/") {
        let deliverer_id = rest.strip_suffix("/location")?;
        return (!deliverer_id.contains('/')).then_some(TopicKind::Delivery { deliverer_id });
    }
    if let Some(rest) = topic.strip_prefix("fleet/") {
        let organization_id = rest.strip_suffix("/events")?;
        return (!organization_id.contains('/')).then_some(TopicKind::Fleet);
    }
    (topic == "test/deliverer_data").then_some(TopicKind::Native)
}

/// Returns the topic on which a deliverer's positions are published.
pub fn delivery_topic(deliverer_id: &DelivererId) -> String {
    format!("deliveries/{deliverer_id}/location")
}

/// Returns the topic on which an organisation's fleet events are published.
///
/// Characters that a topic level cannot hold become `_`; the payload keeps the id as it is.
pub fn fleet_topic(organization_id: &str) -> String {
    let level: String = organization_id
        .chars()
        .map(|c| {
            if matches!(c, '/' | '+' | '#' | '\0') {
                '_'
            } else {
                c
            }
        })
        .collect();
    format!("fleet/{level}/events")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_say_what_they_carry() {
        assert_eq!(
            classify("deliveries/7/location"),
            Some(TopicKind::Delivery { deliverer_id: "7" })
        );
        assert_eq!(classify("fleet/org/events"), Some(TopicKind::Fleet));
        assert_eq!(classify("test/deliverer_data"), Some(TopicKind::Native));
        for other in [
            "deliveries/a/b/location",
            "deliveries/7",
            "fleet/x",
            "",
            "/",
            "$SYS/x",
        ] {
            assert_eq!(classify(other), None, "{other}");
        }
    }
}
