//! What must hold: nothing acknowledged is missing, nothing of QoS 2 comes twice, retained is what came last.

use std::collections::BTreeMap;

use super::client::{Client, Role};
use super::consumer::{Consumer, RETAINED, WILLS};
use super::message::{self, Kind, PUBLISHERS};
use super::world::World;
use crate::protocol::Version;
use crate::simulation::wire::{Message, NEVER};

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
        if let Some(consumer) = client.consumer().filter(|consumer| !consumer.shared)
            && let Some(lacks) = lacks_of(world, consumer)
        {
            return Some(format!("{}: {lacks}", client.name));
        }
        if let Some(consumer) = client.consumer().filter(|consumer| !consumer.wish)
            && (consumer.until.is_none() || world.holds_log(&client.name))
        {
            let ended = consumer.until.is_some();
            return Some(format!(
                "{} is subscribed, or holds the log; UNSUBACK: {ended}",
                client.name
            ));
        }
    }
    groups(world)
        .into_iter()
        .find_map(|members| lacks_of_group(world, &members))
}

fn lacks_of(world: &World, consumer: &Consumer) -> Option<String> {
    let Some(since) = consumer.since else {
        return consumer.wish.then(|| "is not subscribed".to_owned());
    };
    if consumer.filter == WILLS {
        return wills(world, consumer).1;
    }
    for (key, acknowledged) in owed(world, since, consumer) {
        if !consumer.processed.contains(&key) {
            return Some(format!("did not get {key:?}; acknowledged: {acknowledged}"));
        }
    }
    let behind = world.publishers().find(|publisher| {
        let of = |number| (publisher.index, number);
        let found = consumer.given.range(of(0)..=of(u64::MAX)).next_back();
        let found = found.map_or(0, |((_, number), _)| *number);
        consumer.filter == RETAINED && found < publisher.retained
    });
    behind.map(|publisher| {
        format!(
            "did not get what p{} retained: {}",
            publisher.index, publisher.retained
        )
    })
}

/// Returns what is wrong with the wills that came, and which did not come.
fn wills(world: &World, consumer: &Consumer) -> (Option<String>, Option<String>) {
    let mortals = world.clients.iter().filter_map(Client::mortal);
    let judged = mortals.map(|mortal| mortal.judge(&consumer.given, consumer.since_ms));
    judged.fold((None, None), |all, one| (all.0.or(one.0), all.1.or(one.1)))
}

/// No will came that was void.
pub(super) fn void(world: &World) -> Result<(), String> {
    let mut consumers = world.clients.iter().filter_map(Client::consumer);
    let watcher = consumers.find(|consumer| consumer.filter == WILLS);
    let wrong = watcher.and_then(|watcher| wills(world, watcher).0);
    wrong.map_or(Ok(()), Err)
}

/// What has expired does not come, and what has not says how long it still has.
pub(super) fn expiry(world: &World, client: &Client, message: &Message) -> Result<(), String> {
    let Some((kind, (whose, number))) = message::parse(&message.payload) else {
        return Ok(());
    };
    let publisher = &world.clients[whose];
    let times = publisher.publisher().and_then(|p| p.times.get(&number));
    let expiry = kind.expiry(publisher.version, number);
    let (Some((sent_ms, acknowledged_ms)), Some(expiry)) = (times, expiry) else {
        let is_none = message.expiry.is_none();
        return is_none
            .then_some(())
            .ok_or_else(|| format!("an expiry from nowhere: {message:?}"));
    };
    // It was sent when the connection was there, and was taken when it was acknowledged at the latest.
    let least_ms = acknowledged_ms.map_or(0, |ms| client.asked_ms.saturating_sub(ms));
    let seconds = |ms: u64| u32::try_from(ms / 1_000).unwrap_or(u32::MAX);
    let most_left = expiry.saturating_sub(seconds(least_ms));
    let least_left = expiry.saturating_sub(seconds(world.now_ms - sent_ms));
    let left = match message.expiry {
        None if client.version == Version::V311 => most_left,
        left => left.unwrap_or_default(),
    };
    // What was begun before it expired is completed, with the last second of its interval.
    if message.dup && left <= 1 && least_left == 0 {
        return Ok(());
    }
    if left == 0 || !(least_left..=most_left).contains(&left) {
        return Err(format!(
            "{kind:?} {number} came with {left} s, and has {least_left} to {most_left} of {expiry} s"
        ));
    }
    Ok(())
}

fn lacks_of_group(world: &World, members: &[(&Client, &Consumer)]) -> Option<String> {
    let since = members
        .iter()
        .filter(|(client, _)| client.expiry == NEVER)
        .filter_map(|(_, consumer)| consumer.began)
        .reduce(|a, b| std::array::from_fn(|at| a[at].min(b[at])))?;
    for (key, acknowledged) in owed(world, since, members.first()?.1) {
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

/// Returns what was published since and does not expire, and whether it was acknowledged.
fn owed(
    world: &World,
    since: [u64; PUBLISHERS],
    consumer: &Consumer,
) -> impl Iterator<Item = ((usize, u64), bool)> {
    world.publishers().flat_map(move |publisher| {
        let index = publisher.index;
        let numbers = since[index] + 1..=publisher.last;
        let numbers = numbers.filter(move |number| {
            let kind = publisher.kind(*number);
            kind != Kind::Fleeting && consumer.wants(kind)
        });
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
