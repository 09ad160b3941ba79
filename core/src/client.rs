//! Finding instances by a query and calling them.
