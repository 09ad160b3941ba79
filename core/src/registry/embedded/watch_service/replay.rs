//! Events that are sent again, in order or backwards: the defect of a watch after a reconnect that
//! etcd 3.4.24 and 3.4.25 had.

use super::{Ended, Session};

impl Session {
    /// Sends a watcher that starts what it has seen already, if that fault is asked for. `is_late`
    /// says that the new events are sent.
    pub(super) async fn replay(&mut self, id: i64, is_late: bool) -> Result<(), Ended> {
        let replay = self.node.faults.replay();
        let Some(watcher) = self.watchers.get(&id) else {
            return Ok(());
        };
        if replay.n_events == 0 || replay.is_late != is_late {
            return Ok(());
        }
        let mut seen: Vec<_> = {
            let store = self.node.store();
            let to = watcher.seen().min(self.node.committed());
            let changes = store.log(0, to).flat_map(|(_, changes)| changes.iter());
            changes
                .filter(|change| watcher.wants(change))
                .cloned()
                .collect()
        };
        let mut again = seen.split_off(seen.len().saturating_sub(replay.n_events));
        if again.is_empty() {
            return Ok(());
        }
        if is_late {
            again.reverse();
        }
        let responses = watcher.respond(&again);
        for response in responses {
            self.send(etcd_client::proto::PbWatchResponse {
                header: Some(self.node.header(self.node.committed())),
                watch_id: id,
                ..response
            })
            .await?;
        }
        Ok(())
    }
}
