//! Checkpoints and savepoints on object stores: S3, and whatever else speaks its protocol.
//!
//! [`with_s3`] adds the scheme `s3` to what a program can open; the rest of the engine sees a
//! [`BlobStore`](hurtig_storage::BlobStore) as any other. This crate promises that an object is written once, also
//! when the answer to a write is lost or two write at the same time; that each request ends within a deadline; and that
//! no secret is printed. It refuses to know what checkpoints consist of.
//!
//! | Room | Holds |
//! |---|---|
//! | `settings` | [`S3Settings`]: how a store is reached |
//! | `opener` | [`S3Opener`]: buckets and their clients |
//! | `http` | requests on their way out |
//! | `worker` | the threads that requests run on |
//! | `blobs` | [`ObjectBlobs`]: a folder of a bucket as a store |
//! | `upload` | writes, which happen once |
//! | `problem` | what went wrong, in words that help |

mod blobs;
mod http;
mod opener;
mod problem;
mod settings;
mod upload;
mod worker;

pub use blobs::{Limits, ObjectBlobs, Objects, Place};
pub use opener::S3Opener;
pub use settings::S3Settings;
pub use worker::Worker;

use hurtig_core::config::Configuration;
use hurtig_storage::BlobStores;
use std::sync::Arc;

/// The same stores, and those at `s3://bucket/path`, reached as the settings and the environment say.
pub fn with_s3(stores: BlobStores, config: &Configuration) -> BlobStores {
    stores.with("s3", Arc::new(S3Opener::new(S3Settings::of(config))))
}
