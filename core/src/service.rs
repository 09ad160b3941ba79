//! Serving typed methods, registering, draining.
