//! How the registry lets us in and how it says no, on real etcd: users, certificates, no space.

mod certificates;
mod full;
mod server;
mod users;
