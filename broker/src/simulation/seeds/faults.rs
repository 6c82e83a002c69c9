//! What goes wrong.

use ingest_log::sim::{Crash, SimDisk};

use super::client::Client;
use super::world::{FICKLE, KEEPS, World};
use crate::simulation::wire::DISCONNECT;

impl World {
    /// Ends the broker's life at once, as kill or the loss of power does.
    pub(super) fn crash(&mut self) {
        if self.node.is_none() {
            return;
        }
        if self.says {
            println!("{} ms: crash", self.now_ms);
        }
        let crash = if self.random.coin() {
            Crash::Power
        } else {
            Crash::Process
        };
        let disk = self.disk.reboot(crash);
        self.end_life(disk);
        self.tally.crashes += 1;
        if self.random.below(4) == 0 {
            let nth = 1 + self.random.below(30) as u64;
            self.disk.crash_at(nth);
        }
    }

    pub(super) fn end_life(&mut self, disk: SimDisk) {
        self.disk = disk;
        self.node = None;
        self.ghosts.clear();
        let now_ms = self.now_ms;
        for client in &mut self.clients {
            if client.link.is_some() {
                client.leave(now_ms);
            }
        }
    }

    pub(super) async fn stop(&mut self) -> Result<(), String> {
        let Some(node) = self.node.take() else {
            return Ok(());
        };
        let broken = node.failure().is_some();
        let stopped = node.stop(&mut self.random).await;
        self.skip(20_000);
        if !broken && !self.disk.is_off() && self.tally.disk_failures == 0 {
            stopped?;
        }
        let disk = self.disk.reboot(Crash::Process);
        self.end_life(disk);
        self.tally.stops += 1;
        Ok(())
    }

    pub(super) fn break_disk(&mut self) {
        let nth = 1 + self.random.below(20) as u64;
        match self.random.below(4) {
            0 => self.disk.crash_at(nth),
            1 => {
                self.disk.fail_at(nth, std::io::ErrorKind::Other);
                self.tally.disk_failures += 1;
            }
            2 => {
                self.disk.fail_at(nth, std::io::ErrorKind::StorageFull);
                self.tally.disk_failures += 1;
            }
            _ => {
                self.disk.fail_syncs(true);
                self.tally.disk_failures += 1;
            }
        }
    }

    pub(super) fn swap_pipe(&mut self) {
        self.pipe_bytes = 48 << self.random.below(6);
    }

    /// Ends a connection in one of the ways there are.
    pub(super) fn part(&mut self, who: usize) {
        let now_ms = self.now_ms;
        let is_mortal = self.clients[who].mortal().is_some();
        // Of a new session, or of a will, something that comes late could not be told apart.
        let comes_late = !is_mortal && self.clients[who].name != KEEPS;
        match self.random.below(4) {
            0 | 3 if is_mortal => self.clients[who].say_goodbye(),
            0 => {
                if let Some(link) = &mut self.clients[who].link {
                    link.say(&DISCONNECT);
                    link.push(usize::MAX);
                }
                self.clients[who].leave(now_ms);
            }
            3 if comes_late => {
                let left = self.clients[who].leave(now_ms);
                self.ghosts.extend(left.map(|link| (who, link)));
            }
            _ => drop(self.clients[who].leave(now_ms)),
        }
    }

    /// Ends a connection of a client with a will.
    pub(super) fn die(&mut self, who: usize) {
        let is_mortal = |client: &Client| client.mortal().is_some() && client.connected;
        let who = self.next(who, is_mortal);
        if is_mortal(&self.clients[who]) {
            self.part(who);
        }
    }

    /// A client that keeps retained messages begins a new session.
    pub(super) fn begin_anew(&mut self) {
        let now_ms = self.now_ms;
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|client| client.name == KEEPS) {
            client.leave(now_ms);
            client.clean = true;
        }
    }

    /// A client subscribes, or gives its subscription up.
    pub(super) fn change_mind(&mut self) {
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|client| client.name == FICKLE) {
            client.change_mind();
        }
    }

    /// Late bytes arrive, or the broker learns that nobody is there.
    pub(super) fn stir_ghost(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let which = self.random.below(self.ghosts.len());
        if self.random.coin() {
            let moved = self.ghosts[which].1.push(100);
            self.note(moved);
        } else {
            let (whose, _) = self.ghosts.swap_remove(which);
            self.clients[whose].left_ms = self.now_ms;
        }
    }
}
