//! One connection per client id: a second CONNECT ends the first [MQTT-3.1.4-2].
//!
//! Invariant: of all connections with one client id, at most one holds its [`Claim`], and who claims waits until
//! the one before has let go, so a session is never served by two.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

/// Who holds which client id.
#[derive(Debug, Default, Clone)]
pub(crate) struct Claims(Arc<Mutex<HashMap<Arc<str>, Slot>>>);

#[derive(Debug)]
struct Slot {
    /// Ends the latest claimant.
    end: CancellationToken,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Claimants, holding or waiting.
    claimants: usize,
}

/// The sole right to act for a client id; ends with the drop.
#[derive(Debug)]
pub(crate) struct Claim {
    _turn: OwnedMutexGuard<()>,
    _place: Place,
}

/// Counts a claimant, so that the slot goes with the last.
#[derive(Debug)]
struct Place {
    claims: Claims,
    client_id: Arc<str>,
}

impl Claims {
    /// Claims a client id: cancels the token of whoever has it and waits for them to let go.
    ///
    /// `end` will be cancelled when another claims the same id; that may be while this still waits.
    ///
    /// # Cancel safety
    /// Dropping the future gives the claim up; the one before is cancelled all the same.
    pub(crate) async fn claim(&self, client_id: &Arc<str>, end: CancellationToken) -> Claim {
        let turn = {
            let mut slots = self.lock();
            let slot = slots.entry(Arc::clone(client_id)).or_insert_with(|| Slot {
                end: end.clone(),
                turn: Arc::default(),
                claimants: 0,
            });
            if slot.claimants > 0 {
                std::mem::replace(&mut slot.end, end).cancel();
            }
            slot.claimants += 1;
            Arc::clone(&slot.turn)
        };
        let place = Place {
            claims: self.clone(),
            client_id: Arc::clone(client_id),
        };
        Claim {
            _turn: turn.lock_owned().await,
            _place: place,
        }
    }

    /// Claims a client id that nobody has or waits for.
    pub(crate) fn try_claim(&self, client_id: &Arc<str>) -> Option<Claim> {
        let turn: Arc<tokio::sync::Mutex<()>> = Arc::default();
        let guard = Arc::clone(&turn).try_lock_owned().ok()?;
        let mut slots = self.lock();
        if slots.contains_key(client_id) {
            return None;
        }
        let slot = Slot {
            end: CancellationToken::new(),
            turn,
            claimants: 1,
        };
        slots.insert(Arc::clone(client_id), slot);
        drop(slots);
        Some(Claim {
            _turn: guard,
            _place: Place {
                claims: self.clone(),
                client_id: Arc::clone(client_id),
            },
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.claims.lock();
        let Some(slot) = slots.get_mut(&self.client_id) else {
            return;
        };
        slot.claimants -= 1;
        if slot.claimants == 0 {
            slots.remove(&self.client_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_claim_ends_the_first_and_waits_for_it() {
        let claims = Claims::default();
        let id: Arc<str> = "a".into();
        let tokens: [CancellationToken; 3] = Default::default();
        let first = claims.claim(&id, tokens[0].clone()).await;
        let mut second = Box::pin(claims.claim(&id, tokens[1].clone()));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(tokens[0].is_cancelled() && !tokens[1].is_cancelled());
        let mut third = Box::pin(claims.claim(&id, tokens[2].clone()));
        assert!(futures_util::poll!(&mut third).is_pending());
        assert!(tokens[1].is_cancelled() && !tokens[2].is_cancelled());
        drop(second);
        drop(first);
        drop(third.await);
        assert!(claims.lock().is_empty());
    }

    #[tokio::test]
    async fn only_what_nobody_has_is_claimed_by_a_try() {
        let claims = Claims::default();
        let id: Arc<str> = "a".into();
        let tried = claims.try_claim(&id).unwrap();
        assert!(claims.try_claim(&id).is_none());
        let end = CancellationToken::new();
        let mut waits = Box::pin(claims.claim(&id, end.clone()));
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(tried);
        let claimed = waits.await;
        assert!(claims.try_claim(&id).is_none() && !end.is_cancelled());
        drop(claimed);
        assert!(claims.lock().is_empty());
    }

    #[tokio::test]
    async fn different_ids_do_not_meet() {
        let claims = Claims::default();
        let tokens: [CancellationToken; 2] = Default::default();
        let _one = claims.claim(&"a".into(), tokens[0].clone()).await;
        let _two = claims.claim(&"b".into(), tokens[1].clone()).await;
        assert!(!tokens[0].is_cancelled());
    }
}
