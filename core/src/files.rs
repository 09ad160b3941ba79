//! How many files this process may open, connections included.
//!
//! Whatever accepts connections calls this at its start: the soft limit is often 1024, for the sake
//! of programs that use `select`, and the hard one far above.

use std::sync::Once;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this a word is said: a service would run short with a thousand clients.
const FEW: u64 = 4096;

/// Raises the soft limit to the hard one. What the system refuses is only logged; what then happens
/// when descriptors run short is the business of whoever accepts.
pub(crate) fn raise_limit() {
    static SAID: Once = Once::new();

    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if now.current != wanted.current
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot raise the limit of open files"
        );
    }
    SAID.call_once(|| {
        let files = getrlimit(Resource::Nofile).current;
        if let Some(files) = files.filter(|files| *files < FEW) {
            tracing::warn!(
                files,
                "this process may open few files: raise the hard limit (`ulimit -Hn`, `LimitNOFILE=`)"
            );
        }
    });
}
