//! What a reader and those who are registered do when the registry is not the one that they knew:
//! wiped, put back, exchanged, or of another format.
//!
//! Invariants shown: no instance that lives is missing for long (I1), and revisions never go back
//! within one epoch (I8).

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::GetOptions;
use skynet::instance::{Identity, InstanceId, ProcessId, State};
use skynet::registry::embedded::{Embedded, EmbeddedConfig};
use skynet::registry::link::{Doubt, Link};
use skynet::registry::snapshot::Snapshot;
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registration, Registry, RegistryConfig, View};
use skynet::testing::{TestRegistry, free_address};
use tokio::task::JoinHandle;

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const SERVICES: u128 = 4;

fn config(server: &TestRegistry) -> RegistryConfig {
    RegistryConfig::at(&server.url()).with_prefix("/test")
}

fn identity(id: u128) -> Identity {
    Identity {
        service: "Echo".into(),
        version: "1".into(),
        region: "east".into(),
        host: "h".into(),
        id: InstanceId::from_u128(id),
    }
}

fn value(port: u16) -> InstanceValue {
    InstanceValue {
        address: ([127, 0, 0, 1], port).into(),
        admin_address: None,
        process: ProcessId::own().unwrap(),
        started: jiff::Timestamp::now(),
        registered: true,
        state: State::Ready,
        reason: None,
        deployment: None,
        weight: 100,
        lease: 0,
        protocol: 1,
        tags: Vec::new(),
        other: serde_json::Map::new(),
    }
}

/// A few registered instances, each with a handle of its own as if it were a process, and a reader
/// that is watched all the time.
struct Cluster {
    registrations: Vec<Registration>,
    /// The handles keep the leases.
    _handles: Vec<Registry>,
    view: Arc<View>,
    faults: Arc<Mutex<Vec<String>>>,
    watcher: JoinHandle<()>,
}

impl Cluster {
    async fn on(server: &TestRegistry) -> Self {
        let mut registrations = Vec::new();
        let mut handles = Vec::new();
        for id in 1..=SERVICES {
            let handle = Registry::new(&config(server)).unwrap();
            let port = 9000 + u16::try_from(id).unwrap();
            let registration = handle.register(identity(id), value(port));
            within("registered", registration.registered()).await;
            registrations.push(registration);
            handles.push(handle);
        }
        let reader = Registry::new(&config(server)).unwrap();
        let view = reader.view();
        until(&view, "all", |now| ready(now) == 4).await;
        let faults = Arc::new(Mutex::new(Vec::new()));
        let watcher = tokio::spawn(watch(view.changes(), Arc::clone(&faults)));
        Self {
            registrations,
            _handles: handles,
            view,
            faults,
            watcher,
        }
    }

    /// Everybody stands in the new registry, and nobody was missing in between.
    async fn is_whole_on(&self, server: &TestRegistry) {
        let looking = Registry::new(&config(server)).unwrap();
        let all_back = async {
            while looking.snapshot().await.map_or(0, |now| ready(&now)) != 4 {
                tokio::task::yield_now().await;
            }
        };
        within("registered again", all_back).await;
        for registration in &self.registrations {
            within("stands", registration.registered()).await;
        }
        // A change that comes later is seen in the new numbering.
        self.registrations[0].set_state(State::Pressured);
        until(&self.view, "a later change", |now| {
            now.instance(InstanceId::from_u128(1))
                .is_some_and(|one| one.state == State::Pressured)
        })
        .await;
        let faults = self.faults.lock().unwrap();
        assert!(faults.is_empty(), "{faults:?}");
    }

    async fn doubts(&self, wanted: Doubt) {
        let mut link = self.view.link();
        let protected = link.wait_for(|link| matches!(link, Link::Protected { .. }));
        let link = *within("protected", protected).await.unwrap();
        assert!(
            matches!(link, Link::Protected { why, .. } if why == wanted),
            "{link:?}"
        );
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Counts the snapshots in which somebody is missing, or the revision went back.
async fn watch(
    mut changes: tokio::sync::watch::Receiver<Arc<Snapshot>>,
    faults: Arc<Mutex<Vec<String>>>,
) {
    let mut before = (0, 0);
    while changes.changed().await.is_ok() {
        let now = Arc::clone(&changes.borrow_and_update());
        let at = (now.epoch(), now.revision());
        if at < before || now.instances().count() != 4 {
            let fault = format!("{before:?} then {at:?} with {} instances", now.len());
            faults.lock().unwrap().push(fault);
        }
        before = at;
    }
}

fn ready(snapshot: &Snapshot) -> usize {
    snapshot
        .instances()
        .filter(|instance| instance.state == State::Ready)
        .count()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

async fn until(view: &View, what: &str, holds: impl Fn(&Snapshot) -> bool) {
    let mut changes = view.changes();
    let seen = within(what, changes.wait_for(|snapshot| holds(snapshot))).await;
    drop(seen.unwrap());
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

async fn etcd_client(server: &TestRegistry) -> etcd_client::Client {
    etcd_client::Client::connect([server.url()], None)
        .await
        .unwrap()
}

#[tokio::test]
async fn everything_deleted_is_not_everybody_dead() {
    for server in [
        Some(TestRegistry::embedded().await.unwrap()),
        TestRegistry::etcd().await.unwrap(),
    ]
    .into_iter()
    .flatten()
    {
        let cluster = Cluster::on(&server).await;
        let operator = Registry::new(&config(&server)).unwrap();
        operator.delete_prefix().await.unwrap();
        cluster.doubts(Doubt::Wiped).await;
        cluster.is_whole_on(&server).await;
    }
}

#[tokio::test]
async fn a_registry_that_starts_empty_is_filled_again() {
    let mut server = TestRegistry::embedded().await.unwrap();
    let cluster = Cluster::on(&server).await;
    server.kill().await;
    empty(&server.folder());
    server.restart().await.unwrap();
    // Its cluster id is another one, too: to a reader, it is another registry.
    cluster.doubts(Doubt::AnotherRegistry).await;
    cluster.is_whole_on(&server).await;
}

#[tokio::test]
async fn an_old_state_put_back_is_healed() {
    let mut server = TestRegistry::embedded().await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    let mut etcd = etcd_client(&server).await;
    etcd.put("/test/elsewhere", "x", None).await.unwrap();
    let first = Registry::new(&config(&server)).unwrap();
    let registration = first.register(identity(9), value(9009));
    within("registered", registration.registered()).await;
    registration.leave().await;
    server.kill().await;
    copy(&server.folder(), backup.path());
    server.restart().await.unwrap();
    let cluster = Cluster::on(&server).await;
    server.kill().await;
    empty(&server.folder());
    copy(backup.path(), &server.folder());
    server.restart().await.unwrap();
    cluster.doubts(Doubt::WentBack).await;
    cluster.is_whole_on(&server).await;
}

/// The nasty one: by the time anybody looks, the revision has passed what was seen.
#[tokio::test]
async fn an_old_state_that_went_on_elsewhere_is_told_by_its_history() {
    let mut server = TestRegistry::embedded().await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    let first = Registry::new(&config(&server)).unwrap();
    let registration = first.register(identity(9), value(9009));
    within("registered", registration.registered()).await;
    registration.leave().await;
    server.kill().await;
    copy(&server.folder(), backup.path());
    server.restart().await.unwrap();
    let cluster = Cluster::on(&server).await;
    let seen = cluster.view.snapshot().revision();
    server.kill().await;
    empty(&server.folder());
    copy(backup.path(), &server.folder());
    let elsewhere = Embedded::start(EmbeddedConfig {
        listen: free_address().unwrap(),
        data: Some(server.folder()),
        ..EmbeddedConfig::default()
    })
    .await
    .unwrap();
    let mut etcd = etcd_client::Client::connect([elsewhere.url()], None)
        .await
        .unwrap();
    loop {
        let put = etcd.put("/other", "x", None).await.unwrap();
        if put.header().unwrap().revision() > seen + 10 {
            break;
        }
    }
    elsewhere.kill().await;
    server.restart().await.unwrap();
    cluster.doubts(Doubt::WentBack).await;
    cluster.is_whole_on(&server).await;
}

#[tokio::test]
async fn a_format_of_another_release_is_refused_with_a_word() {
    let server = TestRegistry::embedded().await.unwrap();
    let mut etcd = etcd_client(&server).await;
    etcd.put("/test/cluster", r#"{"format":2}"#, None)
        .await
        .unwrap();
    let registry = Registry::new(&config(&server)).unwrap();
    let error = registry.snapshot().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "what stands below `/test` is in format 2, and this program knows format 1"
    );
    let view = registry.view();
    let mut link = view.link();
    let unknown = link.wait_for(|link| matches!(link, Link::Unknown { format: 2, .. }));
    drop(within("said on the link", unknown).await.unwrap());
    let registration = registry.register(identity(1), value(9001));
    // Whoever put it there puts it right: then all goes on by itself.
    etcd.delete("/test/cluster", None).await.unwrap();
    within("registered", registration.registered()).await;
    within("followed", view.ready()).await;
    let standing = etcd.get("/test/cluster", None).await.unwrap();
    let standing = standing.kvs()[0].value_str().unwrap().to_owned();
    assert!(standing.contains(r#""format":1"#), "{standing}");
}

/// Nobody watches the claim on the address: the look that follows a broken watch, and each minute
/// anyway, finds it.
#[tokio::test]
async fn a_claim_that_is_gone_is_made_again() {
    let mut server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&config(&server)).unwrap();
    let registration = registry.register(identity(1), value(9001));
    within("registered", registration.registered()).await;
    let mut etcd = etcd_client(&server).await;
    let claim = "/test/addr/h/9001";
    let deleted = etcd.delete(claim, None).await.unwrap();
    assert_eq!(deleted.deleted(), 1);
    server.kill().await;
    server.restart().await.unwrap();
    let made_again = async {
        loop {
            let standing = etcd.get(claim, None).await;
            if standing.is_ok_and(|standing| standing.count() == 1) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    within("claimed again", made_again).await;
    assert!(*registration.stands().borrow());
}

/// Two owners of one key would overwrite each other for ever.
#[tokio::test]
async fn what_another_wrote_under_our_key_is_not_written_over() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&config(&server)).unwrap();
    let registration = registry.register(identity(1), value(9001));
    within("registered", registration.registered()).await;
    let mut etcd = etcd_client(&server).await;
    let prefix = GetOptions::new().with_prefix();
    let found = etcd.get("/test/instances/", Some(prefix)).await.unwrap();
    let key = found.kvs()[0].key_str().unwrap().to_owned();
    let mut foreign = value(9002);
    foreign.process.boot_id = "another machine".into();
    let foreign = serde_json::to_vec(&foreign).unwrap();
    etcd.put(key.as_str(), foreign.clone(), None).await.unwrap();
    let mut stands = registration.stands();
    let told = stands.wait_for(|stands| !stands);
    drop(within("told that it does not stand", told).await.unwrap());
    registration.set_state(State::Pressured);
    // Whoever wrote it goes: then it is ours again, and until then nobody wrote.
    let standing = etcd.get(key.as_str(), None).await.unwrap();
    assert_eq!(standing.kvs()[0].value(), foreign);
    etcd.delete(key.as_str(), None).await.unwrap();
    within("registered again", registration.registered()).await;
}

#[tokio::test]
async fn what_others_spoiled_under_our_keys_is_put_right() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&config(&server)).unwrap();
    let registration = registry.register(identity(1), value(9001));
    within("registered", registration.registered()).await;
    let mut etcd = etcd_client(&server).await;
    let prefix = GetOptions::new().with_prefix();
    let found = etcd.get("/test/instances/", Some(prefix)).await.unwrap();
    let key = found.kvs()[0].key_str().unwrap().to_owned();
    registration.leave().await;
    for key in [key.as_str(), "/test/addr/h/9001"] {
        etcd.put(key, "nonsense", None).await.unwrap();
    }
    let registration = registry.register(identity(1), value(9001));
    within("registered over it", registration.registered()).await;
}

/// The process and its lease live on, with another entry on it; what was dropped must end all the same.
#[tokio::test]
async fn what_is_dropped_ends_though_its_process_lives_on() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&config(&server)).unwrap();
    let dropped = registry.register(identity(1), value(9001));
    let stays = registry.register(identity(2), value(9002));
    within("registered", dropped.registered()).await;
    within("registered", stays.registered()).await;
    let view = registry.view();
    drop(dropped);
    until(&view, "only the other is left", |snapshot| {
        snapshot
            .instance(identity(1).id)
            .is_none_or(|gone| gone.state == State::Suspect)
            && snapshot.instance(identity(2).id).is_some()
    })
    .await;
    let mut etcd = etcd_client(&server).await;
    let gone = async {
        loop {
            let options = GetOptions::new().with_prefix().with_keys_only();
            let keys = etcd.get("/test/", Some(options)).await.unwrap();
            let of_it =
                |key: &str| key.contains("9001") || key.contains(&identity(1).id.to_string());
            if !keys.kvs().iter().any(|kv| of_it(kv.key_str().unwrap())) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("entry and claims end", gone).await;
    within("the other stands", stays.registered()).await;
}

/// What another has claimed since is not taken from it.
#[tokio::test]
async fn leaving_takes_away_no_claim_of_another() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&config(&server)).unwrap();
    let registration = registry.register(identity(1), value(9001));
    within("registered", registration.registered()).await;
    let mut etcd = etcd_client(&server).await;
    let foreign = r#"{"uuid":"another"}"#;
    etcd.put("/test/addr/h/9001", foreign, None).await.unwrap();
    registration.leave().await;
    let standing = etcd.get("/test/addr/h/9001", None).await.unwrap();
    assert_eq!(standing.kvs()[0].value_str().unwrap(), foreign);
    let options = GetOptions::new().with_prefix().with_count_only();
    let left = etcd.get("/test/ids/", Some(options)).await.unwrap();
    assert_eq!(left.count(), 0);
}
