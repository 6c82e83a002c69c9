//! Whether the parts of this process can do their work.
//!
//! `/healthz` says that the process lives; `/readyz` that every component is ready, the ready line was
//! printed, and no stop has begun. A component that was asked for but never reported counts as not ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The state of every component. Cheap to clone; all clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    announced: bool,
    /// Reason why a component is not ready; `None` when it is.
    components: BTreeMap<&'static str, Option<String>>,
}

impl Health {
    /// Returns the handle through which the component `name` reports; it starts as not ready.
    pub fn component(&self, name: &'static str) -> ComponentHealth {
        let component = ComponentHealth {
            health: self.clone(),
            name,
        };
        component.not_ready("starting");
        component
    }

    /// Tells whether the ready line was printed and every component is ready.
    pub fn is_ready(&self) -> bool {
        let state = self.0.borrow();
        state.announced && state.all_ready()
    }

    /// Waits until every component is ready, so that the ready line is not printed too early.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn components_ready(&self) {
        let mut changes = self.0.subscribe();
        // Fails only when the sender is gone, and we hold it.
        drop(changes.wait_for(State::all_ready).await);
    }

    /// Returns each component with the reason why it is not ready, if it is not.
    pub fn components(&self) -> Vec<(&'static str, Option<String>)> {
        let state = self.0.borrow();
        state
            .components
            .iter()
            .map(|(name, reason)| (*name, reason.clone()))
            .collect()
    }

    /// Records that the ready line was printed.
    pub(crate) fn announce(&self) {
        self.0.send_modify(|state| state.announced = true);
    }

    /// Tells whether the ready line was printed.
    pub(crate) fn is_announced(&self) -> bool {
        self.0.borrow().announced
    }
}

impl State {
    fn all_ready(&self) -> bool {
        self.components.values().all(Option::is_none)
    }
}

/// Through this a component reports its own state.
#[derive(Debug, Clone)]
pub struct ComponentHealth {
    health: Health,
    name: &'static str,
}

impl ComponentHealth {
    /// Reports that the component can do its work.
    pub fn ready(&self) {
        self.set(None);
    }

    /// Reports that it cannot, and why; the reason is shown to operators.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.health.0.send_modify(|state| {
            state.components.insert(self.name, reason);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_components_and_the_announcement_make_it_ready() {
        let health = Health::default();
        let (log, store) = (health.component("log"), health.component("store"));
        log.ready();
        let early = tokio::time::timeout(Duration::from_secs(1), health.components_ready()).await;
        assert!(early.is_err(), "the store is not ready");
        store.ready();
        health.components_ready().await;
        assert!(!health.is_ready(), "not announced");
        health.announce();
        assert!(health.is_ready());
        store.not_ready("the disk is away");
        assert!(!health.is_ready());
        let reason = Some("the disk is away".to_owned());
        assert_eq!(health.components(), [("log", None), ("store", reason)]);
    }
}
