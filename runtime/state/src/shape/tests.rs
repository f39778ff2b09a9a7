//! Traces of types by hand, and rules against what reading does.

mod rules;
mod traces;
