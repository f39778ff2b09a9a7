//! Benchmarks against baselines in the same run.
