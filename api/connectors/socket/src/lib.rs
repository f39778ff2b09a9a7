//! Sockets and standard streams as sources and sinks.
