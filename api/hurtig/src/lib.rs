//! Stateful computation over data streams.
