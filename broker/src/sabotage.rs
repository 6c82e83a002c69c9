//! Steps that a negative control of the tests leaves out, to see that it is noticed.
//!
//! Invariant: outside this crate's own tests nothing is ever left out, and no code is there to do so.

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The journal learns of a subscriber's PUBREC.
    Receipt,
    /// What a member of a group leaves goes to the others.
    Legacy,
    /// A group knows after a restart what was sent with QoS 2.
    Bound,
    /// Who is far behind waits for its turn.
    ReplayTurn,
    /// The journal learns of a retained message that is about to be sent with QoS 2.
    Kept,
    /// The end of a subscription is durable before its UNSUBACK.
    Unsubscribed,
    /// A subscription that has ended goes when what was begun is completed.
    Completed,
    /// The journal learns of a will before the CONNACK.
    WillHeld,
    /// The journal learns that a will is void.
    WillDropped,
    /// A will is void when its client is back in time.
    WillVoid,
    /// What has expired is not sent.
    Expired,
    /// What is sent says how long it still has.
    ExpiryLeft,
    /// A topic alias that is set again stands for the new topic.
    AliasSet,
    /// A topic goes with an alias the client is yet to learn.
    AliasTold,
}

#[cfg(not(test))]
pub(crate) const fn leaves_out(_: Step) -> bool {
    false
}

#[cfg(test)]
pub(crate) use self::control::{leaves_out, without};

#[cfg(test)]
mod control {
    use std::cell::Cell;

    use super::Step;

    thread_local! {
        static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
    }

    /// Tells whether a step is to be left out on this thread.
    pub(crate) fn leaves_out(step: Step) -> bool {
        LEFT_OUT.get() == Some(step)
    }

    /// Leaves a step out, or none, on this thread for as long as `act` takes.
    pub(crate) fn without<T>(step: Option<Step>, act: impl FnOnce() -> T) -> T {
        struct Restore(Option<Step>);
        impl Drop for Restore {
            fn drop(&mut self) {
                LEFT_OUT.set(self.0);
            }
        }
        let _restore = Restore(LEFT_OUT.replace(step));
        act()
    }
}
