//! Which stores of checkpoints and savepoints a program can open.

use hurtig_core::config::Configuration;
use hurtig_storage::BlobStores;

/// The stores that programs with these settings open: directories, and with the feature `s3` what speaks that
/// protocol. For tools that read savepoints; jobs have theirs already.
///
/// ```
/// let config = hurtig::core::config::Configuration::builder().build()?;
/// let stores = hurtig::blob_stores(&config);
/// assert!(stores.open("/var/lib/checkpoints").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn blob_stores(config: &Configuration) -> BlobStores {
    let stores = BlobStores::local();
    #[cfg(feature = "s3")]
    let stores = hurtig_object_store::with_s3(stores, config);
    #[cfg(not(feature = "s3"))]
    let _ = config;
    stores
}
