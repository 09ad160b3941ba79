//! The clients that were made from one registry handle, so that a service beside them can tell what
//! they measure.
//!
//! Invariant: it keeps no client alive, and forgets those that are gone.

use std::sync::{Mutex, PoisonError, Weak};

use super::ClientMetrics;

/// Something that measures calls.
pub(crate) trait Source: Send + Sync {
    /// What it has measured so far.
    fn metrics(&self) -> ClientMetrics;
}

/// The clients of a process, as far as they share a registry handle.
#[derive(Default)]
pub(crate) struct Clients {
    sources: Mutex<Vec<Weak<dyn Source>>>,
}

impl Clients {
    /// Tells of `source` from now on, for as long as it lives.
    pub(crate) fn add(&self, source: Weak<dyn Source>) {
        let mut sources = self.lock();
        sources.retain(|source| source.strong_count() > 0);
        sources.push(source);
    }

    /// What each of them measured, in the order in which they were made.
    pub(crate) fn metrics(&self) -> Vec<ClientMetrics> {
        let alive: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        alive.iter().map(|source| source.metrics()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn Source>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Fixed(&'static str);

    impl Source for Fixed {
        fn metrics(&self) -> ClientMetrics {
            ClientMetrics {
                region: self.0.to_owned(),
                ..ClientMetrics::default()
            }
        }
    }

    #[test]
    fn those_that_are_gone_are_forgotten() {
        let clients = Clients::default();
        let [first, second]: [Arc<dyn Source>; 2] =
            [Arc::new(Fixed("east")), Arc::new(Fixed("west"))];
        clients.add(Arc::downgrade(&first));
        clients.add(Arc::downgrade(&second));
        let regions = || -> Vec<String> {
            let metrics = clients.metrics().into_iter();
            metrics.map(|metrics| metrics.region).collect()
        };
        assert_eq!(regions(), ["east", "west"]);
        drop(first);
        assert_eq!(regions(), ["west"]);
        clients.add(Arc::downgrade(&second));
        assert_eq!(clients.lock().len(), 2);
    }
}
