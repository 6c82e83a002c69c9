//! Whether the parts of this process can do their work.
//!
//! `/healthz` says that the process lives; `/readyz` that every component is ready, the ready line was
//! printed, and no stop has begun. A component that was asked for but never reported counts as not ready.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The state of every component. Cheap to clone; all clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<RwLock<State>>);

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
        let state = self.read();
        state.announced && state.components.values().all(Option::is_none)
    }

    /// Returns each component with the reason why it is not ready, if it is not.
    pub fn components(&self) -> Vec<(&'static str, Option<String>)> {
        let state = self.read();
        state
            .components
            .iter()
            .map(|(name, reason)| (*name, reason.clone()))
            .collect()
    }

    /// Records that the ready line was printed.
    pub(crate) fn announce(&self) {
        self.write().announced = true;
    }

    /// Tells whether the ready line was printed.
    pub(crate) fn is_announced(&self) -> bool {
        self.read().announced
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
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
        self.health.write().components.insert(self.name, reason);
    }
}
