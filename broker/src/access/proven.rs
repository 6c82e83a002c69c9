//! Passwords that were proven a while ago, so that a fleet that comes back after a restart does not wait for a hash each.
//!
//! argon2id is meant to be slow: some tens of milliseconds of a processor. Ten thousand devices that connect again would
//! wait for minutes, and take the processors from those that are connected. Here is a keyed hash (HMAC-SHA-256) of
//! what was proven: the user, the line of the password file, the password. Why that gives nothing away: the key is
//! random, made when the process begins, and never leaves it, so what is held is of no use to who reads it without
//! the key; who can read the key as well reads the passwords as they come. What is wrong is not held: it costs its
//! hash every time. A user whose line has changed has another entry, and all are forgotten when the file is read again.
//!
//! Bound: [`MOST`] entries of 32 bytes; at the bound the half that was not asked for the longest goes.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::hmac;
use ring::rand::SystemRandom;

/// Most entries.
const MOST: usize = 65_536;

/// What tells one proof from another.
pub(super) type Digest = [u8; 32];

/// The proofs.
#[derive(Debug)]
pub(super) struct Proven {
    /// `None`: the system has no random numbers, and then nothing is held.
    key: Option<hmac::Key>,
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

impl Proven {
    pub(super) fn new() -> Self {
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            most: MOST,
            held: Mutex::default(),
        }
    }

    /// Returns what stands for a user, the line it is proven by, and a password.
    pub(super) fn digest(&self, user: &str, hash: &str, password: &[u8]) -> Option<Digest> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        for text in [user.as_bytes(), hash.as_bytes()] {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text);
        }
        context.update(password);
        context.sign().as_ref().try_into().ok()
    }

    /// Tells whether this was proven.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        let mut held = self.lock();
        if held.young.contains(digest) {
            return true;
        }
        let is_old = held.old.remove(digest);
        if is_old {
            self.put(&mut held, *digest);
        }
        is_old
    }

    /// Notes that this was proven.
    pub(super) fn add(&self, digest: Digest) {
        self.put(&mut self.lock(), digest);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.lock() = Held::default();
    }

    fn put(&self, held: &mut Held, digest: Digest) {
        if held.young.len() >= self.most / 2 {
            held.old = std::mem::take(&mut held.young);
        }
        held.young.insert(digest);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_are_told_apart_and_each_process_has_its_own_key() {
        let (one, other) = (Proven::new(), Proven::new());
        let digest = one.digest("ann", "hash", b"word").unwrap();
        for (user, hash, password) in [
            ("an", "nhash", "word"),
            ("ann", "hashw", "ord"),
            ("ann", "hash", "words"),
            ("bob", "hash", "word"),
        ] {
            assert_ne!(one.digest(user, hash, password.as_bytes()), Some(digest));
        }
        assert_eq!(one.digest("ann", "hash", b"word"), Some(digest));
        assert_ne!(other.digest("ann", "hash", b"word"), Some(digest));
    }

    #[test]
    fn at_the_bound_what_is_asked_for_stays() {
        let proven = Proven {
            most: 20,
            ..Proven::new()
        };
        let digest = |number: u8| [number; 32];
        for number in 0..200 {
            proven.add(digest(number));
            assert!(proven.has(&digest(0)), "{number}");
            let held = proven.lock();
            assert!(held.young.len() + held.old.len() <= 20);
        }
        assert!(proven.has(&digest(199)) && !proven.has(&digest(100)));
        proven.clear();
        assert!(!proven.has(&digest(0)));
    }
}
