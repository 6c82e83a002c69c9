//! What happens in the life of a broker: events drawn from a seed, and at the end all that is still open.

use ingest_log::sim::Random;

use super::broker::Broker;
use super::clients::{Publisher, World};

impl Broker {
    /// Lives for some events; they depend on `random` only.
    pub(super) fn live(
        &mut self,
        events: usize,
        random: &mut Random,
        world: &mut World,
    ) -> Result<(), String> {
        // Everybody comes back first: what is sent again keeps its order.
        self.publisher_returns(0, world)?;
        self.publisher_returns(1, world)?;
        self.subscriber_returns(world);
        self.others_return(world);
        for _ in 0..events {
            let publisher = random.below(2);
            match random.below(30) {
                0..5 => {
                    if let Some(id) = world.publishers[publisher].free_id() {
                        world.next_number += 1;
                        let number = world.next_number;
                        world.publishers[publisher].unreceived.insert(number, id);
                        let retain = (random.below(3) == 0)
                            .then(|| random.below(2) as u64 + 10 * publisher as u64);
                        if let Some(topic) = retain {
                            world.retained.entry(topic).or_default().1.push(number);
                        }
                        self.publish(publisher, &[(id, number)], retain)?;
                    }
                }
                5..7 => {
                    if let Some(&id) = world.publishers[publisher].unreleased.first() {
                        self.pubrel(publisher, id, world);
                    }
                }
                7 => self.publisher_returns(publisher, world)?,
                8..11 => self.deliver(world),
                11..13 => self.answer(random, world),
                13 => self.subscriber_returns(world),
                14..18 => self.commit(world),
                18..20 => self.checkpoint(),
                20..25 => self.give(random, world),
                25..27 => self.other_answers(random, world),
                27 => self.others_return(world),
                _ => self.keep_place(),
            }
        }
        Ok(())
    }

    /// Brings everything to its end.
    pub(super) fn finish(mut self, world: &mut World) -> Result<(), String> {
        self.subscriber_returns(world);
        self.others_return(world);
        let mut random = Random::new(1);
        for _ in 0..4_000 {
            for publisher in 0..2 {
                self.publisher_returns(publisher, world)?;
                if let Some(&id) = world.publishers[publisher].unreleased.first() {
                    self.pubrel(publisher, id, world);
                }
            }
            self.deliver(world);
            self.answer(&mut random, world);
            self.give(&mut random, world);
            self.other_answers(&mut random, world);
            self.commit(world);
            let read = self.next >= self.messages.next_durable() && self.sent.is_empty();
            let published = world.publishers.iter().all(Publisher::is_done);
            let others = self.ways_are_done();
            if read && published && others && self.waiting.is_empty() {
                world.last_retained = self.retained().into_values().collect();
                return Ok(());
            }
        }
        Err(format!("it does not come to an end: {world:?}"))
    }
}
