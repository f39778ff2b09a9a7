//! Panics in user code or operators, as errors.

use hurtig_core::Error;
use std::any::Any;

/// A panic in user code or an operator, as an error; `place` says where, if that is not the operator itself.
pub(super) fn panicked(place: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    Error::user(format!("{place}panicked: {message}"))
}
