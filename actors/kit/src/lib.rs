//! The layer between actix and every Hurtig actor.
