//! Tells the registry of the children that are not registered: `status/{host}/{uuid}`.
//!
//! Invariants: written on change only; what the registry does not take is tried again until it does
//! or until something newer is to be said; what stands there of children that nobody knows is taken
//! away. Knows nothing of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use skynet::backoff::Backoff;
use skynet::instance::InstanceId;
use skynet::registry::link::Link;
use skynet::registry::value::ChildValue;
use skynet::registry::{self, Registry};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the last writes of a daemon that ends may take.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// What is to stand in the registry.
type Told = BTreeMap<InstanceId, ChildValue>;

/// What is to stand there, and whether that is all.
#[derive(Debug, Default)]
struct Wanted {
    told: Told,
    /// Until then nothing is written: what an earlier daemon left may still be true.
    is_complete: bool,
}

/// The owner of this host's `status/` keys.
#[derive(Debug)]
pub struct StatusWorker {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

impl StatusWorker {
    /// Starts to keep the keys of `host`; looks at what stands there each time the link comes back.
    pub fn start(registry: Registry, host: Arc<str>, link: watch::Receiver<Link>) -> Self {
        let (wanted, changes) = watch::channel(Wanted::default());
        let worker = Worker {
            registry,
            host,
            written: Told::new(),
            is_checked: false,
        };
        let task = tokio::spawn(worker.run(changes, link));
        Self { wanted, task }
    }

    /// What is to be told of a child.
    pub fn put(&self, id: InstanceId, value: ChildValue) {
        self.wanted
            .send_modify(|wanted| drop(wanted.told.insert(id, value)));
    }

    /// Nothing is to be told of a child.
    pub fn remove(&self, id: InstanceId) {
        self.wanted
            .send_if_modified(|wanted| wanted.told.remove(&id).is_some());
    }

    /// Nothing is to be told of any child.
    pub fn clear(&self) {
        self.wanted.send_modify(|wanted| wanted.told.clear());
    }

    /// What was put is all that there is to say: from now on the registry is made to say the same.
    pub fn complete(&self) {
        self.wanted.send_modify(|wanted| wanted.is_complete = true);
    }

    /// Writes what is left, for a second at most.
    pub async fn finish(self) {
        drop(self.wanted);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(LAST_WRITES, self.task).await.is_err() {
            abort.abort();
            tracing::warn!("the registry does not hear the last news of the children");
        }
    }
}

struct Worker {
    registry: Registry,
    host: Arc<str>,
    /// What was written by this daemon.
    written: Told,
    /// Whether what stands in the registry has been looked at since the link came back.
    is_checked: bool,
}

impl Worker {
    async fn run(mut self, mut changes: watch::Receiver<Wanted>, mut link: watch::Receiver<Link>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut was = None;
        let mut retry = None;
        if changes.wait_for(|wanted| wanted.is_complete).await.is_err() {
            return;
        }
        loop {
            let wanted = changes.borrow_and_update().told.clone();
            retry = match self.bring_to(&wanted).await {
                Ok(()) => {
                    backoff.reset();
                    None
                }
                Err(error) => {
                    if retry.is_none() {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the registry does not take the news of the children"
                        );
                    }
                    Some(backoff.next_wait())
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() && retry.is_none() {
                    return;
                } else if changed.is_err() {
                    tokio::time::sleep(retry.unwrap_or_default()).await;
                },
                () = sleep(retry) => {}
                () = comes_back(&mut link, &mut was) => self.is_checked = false,
            }
        }
    }

    async fn bring_to(&mut self, wanted: &Told) -> Result<(), registry::Error> {
        if !self.is_checked {
            self.check(wanted).await?;
        }
        let surplus: Vec<InstanceId> = self
            .written
            .keys()
            .filter(|id| !wanted.contains_key(id))
            .copied()
            .collect();
        for id in surplus {
            self.registry.remove_child(&self.host, id).await?;
            self.written.remove(&id);
        }
        for (id, value) in wanted {
            if self.written.get(id) != Some(value) {
                self.registry.put_child(&self.host, *id, value).await?;
                self.written.insert(*id, value.clone());
            }
        }
        Ok(())
    }

    /// Compares what stands in the registry with what was written: a registry may have been wiped,
    /// and an earlier daemon may have left keys.
    async fn check(&mut self, wanted: &Told) -> Result<(), registry::Error> {
        let standing: BTreeSet<InstanceId> = self
            .registry
            .children_of(&self.host)
            .await?
            .into_iter()
            .collect();
        self.written.retain(|id, _| standing.contains(id));
        for id in standing {
            if !wanted.contains_key(&id) && !self.written.contains_key(&id) {
                self.registry.remove_child(&self.host, id).await?;
            }
        }
        self.is_checked = true;
        Ok(())
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Waits until the registry answers after it did not, or turns out to be another one.
async fn comes_back(link: &mut watch::Receiver<Link>, was: &mut Option<Link>) {
    loop {
        if link.changed().await.is_err() {
            return std::future::pending().await;
        }
        let now = *link.borrow_and_update();
        let before = was.replace(now);
        let answered = before.is_some_and(|before| before.is_connected());
        let is_another = matches!(now, Link::Protected { since, .. } if !matches!(
            before, Some(Link::Protected { since: known, .. }) if known == since
        ));
        if is_another || (now.is_connected() && !answered) {
            return;
        }
    }
}
