//! How tests wait: on a runtime of their own, for a condition, and not for ever.

use std::future::Future;
use std::time::Duration;

/// How long a condition may take to come true on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a future to its end, on a runtime of its own.
///
/// # Panics
/// When the system refuses a runtime.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("no runtime: {error}"),
    }
}

/// Looks every few milliseconds until a condition holds.
///
/// # Panics
/// When it does not within two minutes.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, looking).await;
    assert!(waited.is_ok(), "{what}: not within {PATIENCE:?}");
}
