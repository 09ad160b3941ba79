//! etcd's Watch service: one task per stream, any number of watchers on it.
//!
//! Invariants: a stream's answers wait in a queue of a few; while it is full the watchers' positions
//! simply stay where they are; `created` comes before the first event of a watcher; an answer to a
//! progress request comes after every event up to the revision that it names.

#[cfg(feature = "testing")]
mod replay;

use std::collections::{BTreeMap, BTreeSet};

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    node::Node,
    range::KeyRange,
    refusal::Refusal,
    watch::{Pulled, Watcher},
};

/// Answers that wait for a slow client, per stream.
const QUEUE: usize = 4;

/// Watchers on one stream.
const MAX_WATCHERS: usize = 10_000;

/// The id of answers that belong to no watcher.
const NO_WATCHER: i64 = -1;

/// The service.
pub(super) struct WatchService {
    pub(super) node: Node,
}

type Responses = mpsc::Sender<Result<PbWatchResponse, Status>>;

#[tonic::async_trait]
impl PbWatchService for WatchService {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, receiver) = mpsc::channel(QUEUE);
        let session = Session {
            node: self.node.clone(),
            responses,
            watchers: BTreeMap::new(),
            busy: BTreeSet::new(),
            next_id: 0,
        };
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The stream is over; there is nobody to tell.
struct Ended;

/// One stream.
struct Session {
    node: Node,
    responses: Responses,
    watchers: BTreeMap<i64, Watcher>,
    /// Those that were sent something since the last look at the idle ones.
    busy: BTreeSet<i64>,
    next_id: i64,
}

impl Session {
    async fn run(mut self, mut requests: Streaming<PbWatchRequest>) {
        let stop = self.node.stop.clone();
        tokio::select! {
            // Either side may end it; both ends look the same to the watchers.
            _ended = self.serve(&mut requests) => {}
            () = stop.cancelled() => {
                // A client that reads hears why; one that does not is cut off with the connection.
                let _ = self.responses.try_send(Err(Refusal::Stopped.into()));
            }
        }
    }

    async fn serve(&mut self, requests: &mut Streaming<PbWatchRequest>) -> Result<(), Ended> {
        let mut committed = self.node.state.committed.subscribe();
        let mut progress = tokio::time::interval(self.node.progress_every);
        progress.reset();
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.handle(request).await?,
                    Ok(None) | Err(_) => return Ok(()),
                },
                // The sender lives in the state that this session holds.
                _ = committed.changed() => self.pump().await?,
                _ = progress.tick() => self.notify_idle().await?,
            }
        }
    }

    async fn handle(&mut self, request: PbWatchRequest) -> Result<(), Ended> {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                // An empty key means the first one.
                let key = if create.key.is_empty() {
                    vec![0]
                } else {
                    create.key
                };
                let range = KeyRange::new(&key, &create.range_end);
                let next = if create.start_revision <= 0 {
                    self.node.committed() + 1
                } else {
                    create.start_revision
                };
                let mut watcher = Watcher::new(range.clone(), next)
                    .with_filters(create.filters)
                    .with_prev_kv(create.prev_kv)
                    .with_fragments(create.fragment);
                watcher.progress_notify = create.progress_notify;
                self.create(create.watch_id, &range, watcher).await
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
                if self.watchers.remove(&cancel.watch_id).is_none() {
                    return Ok(());
                }
                self.send(PbWatchResponse {
                    watch_id: cancel.watch_id,
                    canceled: true,
                    ..self.empty(self.node.committed())
                })
                .await
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {
                let revision = self.node.committed();
                self.pump().await?;
                self.send(PbWatchResponse {
                    watch_id: NO_WATCHER,
                    ..self.empty(revision)
                })
                .await
            }
            None => Ok(()),
        }
    }

    async fn create(
        &mut self,
        wanted_id: i64,
        range: &KeyRange,
        watcher: Watcher,
    ) -> Result<(), Ended> {
        let refusal = if range.is_empty() {
            Some("mvcc: watcher range is empty")
        } else if self.watchers.contains_key(&wanted_id) && wanted_id != 0 {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else if self.watchers.len() >= MAX_WATCHERS {
            Some("too many watchers on one stream")
        } else {
            None
        };
        let mut created = PbWatchResponse {
            created: true,
            ..self.empty(self.node.committed())
        };
        if let Some(reason) = refusal {
            created.watch_id = NO_WATCHER;
            created.canceled = true;
            reason.clone_into(&mut created.cancel_reason);
            return self.send(created).await;
        }
        let id = if wanted_id == 0 {
            self.free_id()
        } else {
            wanted_id
        };
        created.watch_id = id;
        self.send(created).await?;
        // The guard is gone before the next await.
        let compacted = {
            let store = self.node.store();
            watcher.is_compacted(&store).then(|| store.compacted())
        };
        if let Some(compacted) = compacted {
            return self.send_lost(id, compacted).await;
        }
        self.watchers.insert(id, watcher);
        #[cfg(feature = "testing")]
        self.replay(id, false).await?;
        self.pump().await?;
        #[cfg(feature = "testing")]
        self.replay(id, true).await?;
        Ok(())
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Brings every watcher up to the committed revision.
    async fn pump(&mut self) -> Result<(), Ended> {
        // Watchers take turns, so that one with much to catch up does not hold up the others.
        let mut behind: Vec<i64> = self.watchers.keys().copied().collect();
        while !behind.is_empty() {
            let mut still_behind = Vec::new();
            for id in behind {
                if self.pump_one(id).await? {
                    still_behind.push(id);
                }
            }
            behind = still_behind;
        }
        Ok(())
    }

    /// Sends the next changes to one watcher; tells whether there may be more.
    async fn pump_one(&mut self, id: i64) -> Result<bool, Ended> {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return Ok(false);
        };
        let (pulled, compacted) = {
            let store = self.node.store();
            let pulled = watcher.pull(&store, self.node.committed());
            (pulled, store.compacted())
        };
        match pulled {
            Pulled::Synced => Ok(false),
            Pulled::Lost => {
                self.watchers.remove(&id);
                self.send_lost(id, compacted).await?;
                Ok(false)
            }
            Pulled::Changes(changes) => {
                let seen = watcher.seen();
                let responses = watcher.respond(&changes);
                self.busy.insert(id);
                for response in responses {
                    self.send(PbWatchResponse {
                        header: Some(self.node.header(seen)),
                        watch_id: id,
                        ..response
                    })
                    .await?;
                }
                Ok(true)
            }
        }
    }

    /// Tells the idle watchers that asked for it how far they are.
    async fn notify_idle(&mut self) -> Result<(), Ended> {
        self.pump().await?;
        let busy = std::mem::take(&mut self.busy);
        let idle: Vec<(i64, i64)> = self
            .watchers
            .iter()
            .filter(|(id, watcher)| watcher.progress_notify && !busy.contains(id))
            .map(|(id, watcher)| (*id, watcher.seen().min(self.node.committed())))
            .collect();
        for (watch_id, seen) in idle {
            self.send(PbWatchResponse {
                watch_id,
                ..self.empty(seen)
            })
            .await?;
        }
        Ok(())
    }

    /// Ends a watcher that asks for what is compacted.
    async fn send_lost(&self, watch_id: i64, compact_revision: i64) -> Result<(), Ended> {
        // As in etcd, the header names no revision: the watcher has seen none.
        self.send(PbWatchResponse {
            watch_id,
            canceled: true,
            compact_revision,
            ..self.empty(0)
        })
        .await
    }

    fn empty(&self, revision: i64) -> PbWatchResponse {
        PbWatchResponse {
            header: Some(self.node.header(revision)),
            ..PbWatchResponse::default()
        }
    }

    async fn send(&self, response: PbWatchResponse) -> Result<(), Ended> {
        #[cfg(feature = "testing")]
        self.node.faults.until_audible().await;
        // It fails when the client is gone, which ends the session without a word.
        let sent = self.responses.send(Ok(response)).await;
        sent.map_err(|_gone| Ended)
    }
}
