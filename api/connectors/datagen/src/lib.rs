//! Generated data: sequences and rate-limited generators.
