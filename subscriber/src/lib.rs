//! subscriber.
