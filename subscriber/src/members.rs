//! One component's health out of several that share its name: ready when all of them are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use service::ComponentHealth;

/// Members of one component.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    component: ComponentHealth,
    /// Why a member is not ready, by its number; `None` when it is.
    states: Arc<Mutex<BTreeMap<usize, Option<String>>>>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    members: Members,
    number: usize,
}

impl Members {
    pub(crate) fn new(component: ComponentHealth) -> Self {
        Self {
            component,
            states: Arc::default(),
        }
    }

    /// Adds a member that is ready.
    pub(crate) fn ready(&self, number: usize) -> Member {
        self.add(number, None)
    }

    /// Adds a member that is not.
    pub(crate) fn not_ready(&self, number: usize, reason: &str) -> Member {
        self.add(number, Some(reason.to_owned()))
    }

    fn add(&self, number: usize, reason: Option<String>) -> Member {
        self.set(number, reason);
        Member {
            members: self.clone(),
            number,
        }
    }

    fn set(&self, number: usize, reason: Option<String>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        // The common case, once per batch: nothing changes.
        if states.get(&number) == Some(&reason) {
            return;
        }
        states.insert(number, reason);
        let several = states.len() > 1;
        let worst = states
            .iter()
            .find_map(|(number, reason)| reason.as_ref().map(|reason| (number, reason)));
        // Said under the lock, so that an older state never overtakes a newer one.
        match worst {
            None => self.component.ready(),
            Some((number, reason)) if several => self
                .component
                .not_ready(format!("connection {number}: {reason}")),
            Some((_, reason)) => self.component.not_ready(reason.clone()),
        }
    }
}

impl Member {
    pub(crate) fn ready(&self) {
        self.members.set(self.number, None);
    }

    pub(crate) fn not_ready(&self, reason: impl Into<String>) {
        self.members.set(self.number, Some(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use service::Context;

    use super::*;

    #[tokio::test]
    async fn all_members_make_the_component_ready() {
        let context = Context::for_tests();
        let members = Members::new(context.health.component("broker"));
        let reason = || context.health.components().remove(0).1;
        let zero = members.not_ready(0, "away");
        assert_eq!(reason().as_deref(), Some("away"));
        let one = members.not_ready(1, "refused");
        zero.ready();
        assert_eq!(reason().as_deref(), Some("connection 1: refused"));
        one.ready();
        assert_eq!(reason(), None);
        zero.not_ready("away again");
        assert_eq!(reason().as_deref(), Some("connection 0: away again"));
    }
}
