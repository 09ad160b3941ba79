use std::time::Duration;

use skynet::instance::{ProcessId, State};
use skynet::registry::RegistryConfig;
use skynet::registry::embedded::{Embedded, EmbeddedConfig};
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A supervisor with a registry and a state folder of its own, and a guard for what it starts.
struct Bench {
    folder: tempfile::TempDir,
    registry: Registry,
    /// Lives as long as the bench.
    embedded: Option<Embedded>,
    running: Option<(SupervisorHandle, JoinHandle<Result<(), AdoptError>>)>,
}

impl Bench {
    async fn new() -> Self {
        let config = EmbeddedConfig::default();
        let embedded = Embedded::start(EmbeddedConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: None,
            ..config
        })
        .await
        .unwrap();
        let registry = Registry::new(&RegistryConfig::at(&embedded.url())).unwrap();
        let mut bench = Self::with(registry);
        bench.embedded = Some(embedded);
        bench
    }

    /// Nobody listens at the registry's address.
    fn without_registry() -> Self {
        Self::with(Registry::new(&RegistryConfig::at("http://127.0.0.1:1")).unwrap())
    }

    fn with(registry: Registry) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            registry,
            embedded: None,
            running: None,
        }
    }

    fn start(&mut self, file: Option<Vec<ChildSpec>>) -> SupervisorHandle {
        let folder = StateFolder::open(self.folder.path()).unwrap();
        let noted = crate::store::load(&folder.children()).unwrap().noted;
        let context = ChildContext {
            host: "h1".into(),
            region: "east".into(),
            policy: Policy {
                first_wait: Duration::from_millis(50),
                longest_wait: Duration::from_millis(100),
                notable_wait: Duration::ZERO,
                ..Policy::with_drain(Duration::from_secs(1))
            },
            env: BTreeMap::new(),
        };
        let (handle, life) = Supervisor::prepare(Start {
            context,
            folder: Arc::new(folder),
            registry: self.registry.clone(),
            noted,
            file,
        });
        self.running = Some((handle.clone(), tokio::spawn(life)));
        handle
    }

    async fn close(&mut self, mode: CloseMode) {
        let (handle, task) = self.running.take().unwrap();
        handle.close(mode).await;
        let ended = tokio::time::timeout(PATIENCE, task).await.unwrap();
        ended.unwrap().unwrap();
    }

    /// As kill -9 does: nothing is said to anybody.
    async fn break_off(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
        // The lock goes with the last share of the folder, which launches may hold for a moment.
        until("the lock is free", async || {
            StateFolder::open(self.folder.path()).is_ok()
        })
        .await;
    }

    fn noted(&self) -> Noted {
        crate::store::load(&self.folder.path().join("children.json"))
            .unwrap()
            .noted
    }

    fn log(&self, id: InstanceId) -> String {
        let path = self.folder.path().join(format!("logs/{id}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    async fn told(&self, id: InstanceId) -> Option<State> {
        let snapshot = self.registry.snapshot().await.unwrap();
        snapshot.instance(id).map(|child| child.state)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whatever the test did, nothing that carries a mark of its children lives on.
        let marked = crate::process::find_marked().unwrap_or_default();
        for id in self.noted().children.keys() {
            if let Some(Ok(Some(process))) = marked.get(id).map(crate::process::adopt) {
                drop(process.kill());
            }
        }
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn shell(script: &str) -> ChildSpec {
    ChildSpec {
        path: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        ..ChildSpec::default()
    }
}

fn sleeper() -> ChildSpec {
    shell("exec sleep 1000")
}

async fn process_of(handle: &SupervisorHandle, id: InstanceId) -> Option<ProcessId> {
    let known = handle.known().await;
    known.into_iter().find(|known| known.id == id)?.process
}

async fn pid_of(handle: &SupervisorHandle, id: InstanceId) -> ProcessId {
    process_of(handle, id).await.expect("its process lives")
}

#[tokio::test]
async fn a_killed_child_is_back_with_its_id_although_the_registry_is_away() {
    let mut bench = Bench::without_registry();
    let handle = bench.start(None);
    let id = InstanceId::new_v4();
    handle
        .deploy(id, shell("echo $SKYNET_UUID; exec sleep 1000"))
        .await
        .unwrap();
    until("it wrote", async || bench.log(id) == format!("{id}\n")).await;
    let first = pid_of(&handle, id).await;
    crate::process::adopt(&first)
        .unwrap()
        .unwrap()
        .kill()
        .unwrap();
    until("another process of it lives", async || {
        process_of(&handle, id)
            .await
            .is_some_and(|now| now != first)
    })
    .await;
    until("both wrote to the same file", async || {
        bench.log(id) == format!("{id}\n{id}\n")
    })
    .await;
    bench.close(CloseMode::StopChildren).await;
    assert!(bench.noted().children[&id].process.is_none());
}

#[tokio::test]
async fn what_cannot_start_is_refused_and_forgotten() {
    let mut bench = Bench::without_registry();
    let handle = bench.start(None);
    let id = InstanceId::new_v4();
    let mut spec = sleeper();
    spec.cwd = Some("/no/such/folder".into());
    let refused = handle.deploy(id, spec).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Service failed to start: the working folder `/no/such/folder` is not there"
    );
    assert!(handle.list().await.is_empty());
    bench.close(CloseMode::StopChildren).await;
    assert!(bench.noted().children.is_empty());
}

#[tokio::test]
async fn stopped_children_are_told_and_can_be_started() {
    let mut bench = Bench::new().await;
    let handle = bench.start(None);
    let id = InstanceId::new_v4();
    handle.deploy(id, sleeper()).await.unwrap();
    let first = pid_of(&handle, id).await;
    assert_eq!(handle.stop(id).await, Answer::Done);
    assert_eq!(handle.stop(id).await, Answer::Nothing);
    until("it is told", async || {
        bench.told(id).await == Some(State::Stopped)
    })
    .await;
    assert!(!first.is_alive().unwrap());
    assert!(!handle.list().await[0].running);
    assert_eq!(handle.start(id).await, Answer::Done);
    until("it runs", async || process_of(&handle, id).await.is_some()).await;
    assert_eq!(handle.start(id).await, Answer::Nothing);
    assert_eq!(handle.start(InstanceId::nil()).await, Answer::NoSuchChild);
    let second = pid_of(&handle, id).await;
    assert_eq!(handle.restart_all().await, [(id, Answer::Done)]);
    until("it runs anew", async || {
        process_of(&handle, id)
            .await
            .is_some_and(|now| now != second)
    })
    .await;
    bench.close(CloseMode::StopChildren).await;
    assert_eq!(
        bench.told(id).await,
        None,
        "a daemon that ends takes its words along"
    );
}

#[tokio::test]
async fn a_crash_loop_is_told_and_still_tried() {
    let mut bench = Bench::new().await;
    let handle = bench.start(None);
    let id = InstanceId::new_v4();
    handle
        .deploy(id, shell("echo again; exit 3"))
        .await
        .unwrap();
    until("it is told", async || {
        bench.told(id).await == Some(State::Crashloop)
    })
    .await;
    let snapshot = bench.registry.snapshot().await.unwrap();
    let child = snapshot.instance(id).unwrap();
    assert_eq!(child.reason.as_deref(), Some("exit code 3"));
    assert_eq!(&**child.service(), "sh");
    assert_eq!(&**child.version(), "unknown");
    assert_eq!(&**child.region(), "east");
    let tries = bench.log(id).lines().count();
    until("it is tried", async || {
        bench.log(id).lines().count() > tries
    })
    .await;
    bench.close(CloseMode::StopChildren).await;
}

#[tokio::test]
async fn the_next_supervisor_adopts_what_lives_and_starts_what_died() {
    let mut bench = Bench::new().await;
    let handle = bench.start(None);
    let ids: Vec<InstanceId> = (0..3).map(|_| InstanceId::new_v4()).collect();
    for id in &ids {
        handle.deploy(*id, sleeper()).await.unwrap();
    }
    let mut before = Vec::new();
    for id in &ids {
        before.push(pid_of(&handle, *id).await);
    }
    assert_eq!(handle.stop(ids[2]).await, Answer::Done);
    until("the third is told", async || {
        bench.told(ids[2]).await == Some(State::Stopped)
    })
    .await;
    bench.break_off().await;
    crate::process::adopt(&before[1])
        .unwrap()
        .unwrap()
        .kill()
        .unwrap();
    until("the second is gone", async || {
        !before[1].is_alive().unwrap()
    })
    .await;

    let handle = bench.start(None);
    assert_eq!(pid_of(&handle, ids[0]).await, before[0]);
    until("the second runs anew", async || {
        process_of(&handle, ids[1])
            .await
            .is_some_and(|now| now != before[1])
    })
    .await;
    assert_eq!(
        process_of(&handle, ids[2]).await,
        None,
        "the operator's wish holds"
    );
    bench.close(CloseMode::Leave).await;
    assert!(before[0].is_alive().unwrap());

    let handle = bench.start(None);
    assert_eq!(pid_of(&handle, ids[0]).await, before[0]);
    bench.close(CloseMode::StopChildren).await;
    until("the first is gone", async || !before[0].is_alive().unwrap()).await;
}

#[tokio::test]
async fn a_child_whose_pid_was_not_noted_is_found_by_its_mark() {
    let mut bench = Bench::without_registry();
    let handle = bench.start(None);
    let id = InstanceId::new_v4();
    handle.deploy(id, sleeper()).await.unwrap();
    let process = pid_of(&handle, id).await;
    bench.close(CloseMode::Leave).await;
    let mut noted = bench.noted();
    let mut record = ChildRecord::clone(&noted.children[&id]);
    record.process = None;
    noted.children.insert(id, Arc::new(record));
    crate::store::save(&bench.folder.path().join("children.json"), &noted).unwrap();

    let handle = bench.start(None);
    assert_eq!(pid_of(&handle, id).await, process);
    bench.close(CloseMode::StopChildren).await;
}

#[tokio::test]
async fn the_file_is_followed_without_starting_anything_twice() {
    let mut bench = Bench::without_registry();
    let handle = bench.start(Some(vec![sleeper(), sleeper(), shell("exec sleep 2000")]));
    until("three run", async || handle.known().await.len() == 3).await;
    let pids = async |handle: &SupervisorHandle| {
        let mut pids: Vec<u32> = handle
            .known()
            .await
            .into_iter()
            .filter_map(|known| Some(known.process?.pid))
            .collect();
        pids.sort_unstable();
        pids
    };
    let before = pids(&handle).await;
    bench.close(CloseMode::Leave).await;

    let handle = bench.start(Some(vec![sleeper(), sleeper(), shell("exec sleep 2000")]));
    assert_eq!(pids(&handle).await, before);
    bench.close(CloseMode::Leave).await;

    let handle = bench.start(Some(vec![sleeper(), shell("exec sleep 3000")]));
    until("the file's two run", async || {
        let list = handle.list().await;
        list.len() == 2 && list.iter().all(|child| child.running)
    })
    .await;
    let kept = pids(&handle).await;
    assert_eq!(kept.iter().filter(|pid| before.contains(pid)).count(), 1);
    bench.close(CloseMode::StopChildren).await;

    let handle = bench.start(None);
    until("what was stopped with the daemon runs again", async || {
        handle.known().await.len() == 2
    })
    .await;
    bench.close(CloseMode::StopChildren).await;
}
