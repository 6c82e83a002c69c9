//! What must hold: nothing acknowledged is missing, nothing of QoS 2 comes twice, retained is what came last.

use std::collections::BTreeMap;

use super::client::{Client, Consumer, PUBLISHERS, RETAINED, Role};
use super::world::World;
use crate::protocol::Version;
use crate::simulation::wire::NEVER;

/// Rounds in which a visitor gets its retained messages.
const VISIT_ROUNDS: usize = 60;

/// Says what is still missing: a message that a consumer is owed, or an answer a publisher waits for.
pub(super) fn lacks(world: &World) -> Option<String> {
    for publisher in world.publishers() {
        if let Some(open) = publisher.open.front() {
            return Some(format!("p{} waits: {open:?}", publisher.index));
        }
    }
    for client in &world.clients {
        let Some(consumer) = client.consumer().filter(|consumer| !consumer.shared) else {
            continue;
        };
        let Some(since) = consumer.since else {
            return Some(format!("{} is not subscribed", client.name));
        };
        let retained_too = consumer.filter == "t/#";
        for (key, acknowledged) in owed(world, since, retained_too) {
            if !consumer.processed.contains(&key) {
                let name = &client.name;
                return Some(format!(
                    "{name} did not get {key:?}; acknowledged: {acknowledged}"
                ));
            }
        }
    }
    groups(world)
        .into_iter()
        .find_map(|members| lacks_of_group(world, &members))
}

fn lacks_of_group(world: &World, members: &[(&Client, &Consumer)]) -> Option<String> {
    let since = members
        .iter()
        .filter(|(client, _)| client.expiry == NEVER)
        .filter_map(|(_, consumer)| consumer.began)
        .reduce(|a, b| std::array::from_fn(|at| a[at].min(b[at])))?;
    for (key, acknowledged) in owed(world, since, true) {
        let mut all = members.iter();
        if !all.any(|(_, consumer)| consumer.processed.contains(&key)) {
            let filter = &members.first()?.1.filter;
            return Some(format!(
                "nobody of {filter} got {key:?}; acknowledged: {acknowledged}"
            ));
        }
    }
    None
}

/// Returns the members of every group.
fn groups(world: &World) -> Vec<Vec<(&Client, &Consumer)>> {
    let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for client in &world.clients {
        if let Some(consumer) = client.consumer().filter(|consumer| consumer.shared) {
            let group = groups.entry(&consumer.filter).or_default();
            group.push((client, consumer));
        }
    }
    groups.into_values().collect()
}

/// Returns what was published since, and whether it was acknowledged.
fn owed(
    world: &World,
    since: [u64; PUBLISHERS],
    retained_too: bool,
) -> impl Iterator<Item = ((usize, u64), bool)> {
    world.publishers().flat_map(move |publisher| {
        let index = publisher.index;
        let numbers = since[index] + 1..=publisher.last;
        let numbers = numbers.filter(move |n| retained_too || !publisher.to_retain.contains(n));
        numbers.map(move |n| ((index, n), publisher.acknowledged.contains(&n)))
    })
}

/// What was published and subscribed to with QoS 2 was given to the application once, of a group by one member.
pub(super) fn once(world: &World) -> Result<(), String> {
    let own = world.clients.iter().filter_map(|client| {
        let consumer = client.consumer().filter(|consumer| !consumer.shared)?;
        Some(vec![(client, consumer)])
    });
    for members in own.chain(groups(world)) {
        let exact = members.iter().filter(|(_, consumer)| consumer.qos == 2);
        for publisher in world.publishers() {
            for number in &publisher.exact {
                let key = (publisher.index, *number);
                let counts = exact
                    .clone()
                    .filter_map(|(_, consumer)| consumer.given.get(&key));
                let count: u32 = counts.sum();
                if count > 1 {
                    let filter = &members[0].1.filter;
                    return Err(format!("{filter} got {key:?} {count} times"));
                }
            }
        }
    }
    Ok(())
}

/// A new subscriber looks at what is retained.
pub(super) async fn visit(world: &mut World) -> Result<(), String> {
    if !world.is_up() {
        return Ok(());
    }
    let mut least = [0; PUBLISHERS];
    for publisher in world.publishers() {
        least[publisher.index] = publisher.retained;
    }
    let role = Role::Consumer(Consumer::new(RETAINED, 1));
    let who = world.clients.len();
    let visitor = Client::new("visitor", Version::V311, 0, role);
    world.clients.push(visitor);
    world.connect(who);
    for _ in 0..VISIT_ROUNDS {
        world.push(who);
        world.advance(1).await?;
        world.pull(who)?;
        while world.clients[who].has_answers() {
            world.clients[who].answer();
        }
    }
    let Some(visitor) = world.clients.pop() else {
        return Ok(());
    };
    // It may have come to a broker whose disk had just failed.
    let Some(consumer) = visitor.consumer().filter(|c| c.since.is_some()) else {
        return Ok(());
    };
    for (index, least) in least.into_iter().enumerate() {
        let found = consumer.given.keys().filter(|(whose, _)| *whose == index);
        let found = found.map(|(_, number)| *number).max().unwrap_or_default();
        if found < least {
            return Err(format!(
                "retained of p{index} is {found}, acknowledged was {least}"
            ));
        }
    }
    world.tally.visits += 1;
    Ok(())
}
