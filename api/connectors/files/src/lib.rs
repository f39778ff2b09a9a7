//! Files, folders and globs as sources and sinks.
