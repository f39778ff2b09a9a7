//! How stores that speak S3 are reached.

use std::time::Duration;

use crate::config::{AnyOption, ByteSize, ConfigOption, Scope};

/// Where the store is.
pub static S3_ENDPOINT: ConfigOption<Option<String>> = ConfigOption::new(
    "s3.endpoint",
    Scope::Program,
    || None,
    "URL of a store that speaks S3, as `https://objects.example.com:9000`; `http://` is not encrypted. When it is not set: \
     `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` of the environment, else Amazon S3 in `s3.region`.",
)
.flink("(none)");

/// In which region the bucket is.
pub static S3_REGION: ConfigOption<Option<String>> = ConfigOption::new(
    "s3.region",
    Scope::Program,
    || None,
    "Region of the bucket. When it is not set: `AWS_REGION` or `AWS_DEFAULT_REGION` of the environment, else `us-east-1`.",
)
.flink("(none)");

/// Who asks.
pub static S3_ACCESS_KEY: ConfigOption<Option<String>> = ConfigOption::new(
    "s3.access-key",
    Scope::Program,
    || None,
    "Access key. When it is not set: what the environment says in the variables that Amazon's tools read \
     (`AWS_ACCESS_KEY_ID`, a web identity, a container's credentials), else what the machine's metadata service says.",
)
.flink("(none)");

/// What proves it.
pub static S3_SECRET_KEY: ConfigOption<Option<String>> = ConfigOption::new(
    "s3.secret-key",
    Scope::Program,
    || None,
    "Secret key that belongs to `s3.access-key`, else `AWS_SECRET_ACCESS_KEY` of the environment. It is printed nowhere. Arguments of a \
     process can be seen by others on its machine: set it in a file or by the environment.",
)
.flink("(none)")
.secret();

/// Where the bucket's name goes.
pub static S3_PATH_STYLE: ConfigOption<bool> = ConfigOption::new(
    "s3.path.style.access",
    Scope::Program,
    || false,
    "Whether the name of the bucket is in the path of requests (`https://endpoint/bucket`) and not in the name of the host \
     (`https://bucket.endpoint`). Most stores that are not Amazon's need it. It is always so for hosts that are \
     addresses, and for `localhost`.",
)
.flink("false");

/// Size of parts.
pub static S3_PART_SIZE: ConfigOption<ByteSize> = ConfigOption::new(
    "s3.upload.min.part.size",
    Scope::Program,
    || ByteSize::mb(16),
    "Size of the parts in which larger files are sent and fetched, four at a time. A part that fails is sent again; files that are \
     no larger are sent as a whole.",
)
.flink("5242880")
.accepting(
    |size| (5 << 20..=1 << 30).contains(&size.get()),
    "a size from `5 mb` to `1 gb`",
);

/// Longest time of a request with its repetitions.
pub static S3_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "s3.request.timeout",
    Scope::Program,
    || Duration::from_secs(60),
    "Longest time that a request to the store takes, with its repetitions: one that fails is repeated with growing pauses, until a \
     checkpoint that needs it is given up.",
)
.accepting(
    |timeout| *timeout >= Duration::from_millis(100),
    "a duration of at least `100 ms`",
);

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &S3_ENDPOINT,
    &S3_REGION,
    &S3_ACCESS_KEY,
    &S3_SECRET_KEY,
    &S3_PATH_STYLE,
    &S3_PART_SIZE,
    &S3_TIMEOUT,
];
