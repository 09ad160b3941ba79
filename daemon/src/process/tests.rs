use super::*;

use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Kills what a test has started, however the test ends.
struct Ended(Process);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        let _ = self.0.reap();
    }
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn shell(&self, script: &str) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: BTreeMap::new(),
            user: None,
            cwd: None,
            log: self.folder.path().join("log"),
        }
    }

    fn start(&self, script: &str) -> Ended {
        Ended(launch(&self.shell(script)).unwrap())
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

async fn exit_of(process: &Process) -> Exit {
    tokio::time::timeout(PATIENCE, process.exited())
        .await
        .expect("the process ends")
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn output_of_both_kinds_is_appended_and_the_exit_code_is_told() {
    let bench = Bench::new();
    for code in [0, 7] {
        let started = bench.start(&format!("echo out; echo err >&2; exit {code}"));
        assert_eq!(exit_of(&started.0).await, Exit::Code(code));
    }
    assert_eq!(bench.output(), "out\nerr\nout\nerr\n");
}

#[tokio::test]
async fn environment_and_folder_reach_the_child() {
    let bench = Bench::new();
    let mut launched = bench.shell("echo $GREETING; pwd");
    launched.env.insert("GREETING".to_owned(), "hi".to_owned());
    launched.cwd = Some(bench.folder.path().canonicalize().unwrap());
    let started = Ended(launch(&launched).unwrap());
    assert_eq!(exit_of(&started.0).await, Exit::Code(0));
    let folder = launched.cwd.unwrap();
    assert_eq!(bench.output(), format!("hi\n{}\n", folder.display()));
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group_and_is_told() {
    let bench = Bench::new();
    let started = bench.start("sleep 1000 & echo $!; wait");
    until("the grandchild is there", || bench.output().ends_with('\n')).await;
    let grandchild = bench.output().trim().parse().unwrap();
    let grandchild = ProcessId::of(grandchild).unwrap().unwrap();
    assert!(started.0.terminate().unwrap());
    assert_eq!(exit_of(&started.0).await, Exit::Signal(15));
    until("the grandchild is gone", || !grandchild.is_alive().unwrap()).await;
    assert!(
        !started.0.kill().unwrap(),
        "nobody is there to be signalled"
    );
}

#[tokio::test]
async fn what_a_dead_child_leaves_of_its_group_is_ended() {
    let bench = Bench::new();
    let started = bench.start("sleep 1000 & echo $!; exit 3");
    assert_eq!(exit_of(&started.0).await, Exit::Code(3));
    let grandchild: u32 = bench.output().trim().parse().unwrap();
    until("the grandchild is gone", || {
        ProcessId::of(grandchild).unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_stranger_with_the_same_pid_is_neither_adopted_nor_signalled() {
    let bench = Bench::new();
    let started = bench.start("exec sleep 1000");
    let id = started.0.id().unwrap();
    let stranger = ProcessId {
        process_start: id.process_start + 1,
        ..id.clone()
    };
    assert!(adopt(&stranger).unwrap().is_none());
    let mistaken = Process {
        id: Some(stranger),
        ..started.0.clone()
    };
    assert!(!mistaken.kill().unwrap());
    assert!(id.is_alive().unwrap());
    assert!(adopt(id).unwrap().is_some());
}

#[tokio::test]
async fn a_zombie_is_not_adopted() {
    let bench = Bench::new();
    let started = bench.start("exec sleep 1000");
    let id = started.0.id().unwrap().clone();
    started.0.kill().unwrap();
    until("it is a zombie", || !id.is_alive().unwrap()).await;
    assert!(adopt(&id).unwrap().is_none());
}

#[tokio::test]
async fn a_marked_leader_is_found_without_its_pid() {
    let bench = Bench::new();
    let mark = InstanceId::new_v4();
    let mut launched = bench.shell("sleep 1000 & wait");
    launched
        .env
        .insert(UUID_VARIABLE.to_owned(), mark.to_string());
    let started = Ended(launch(&launched).unwrap());
    assert_eq!(find_marked().unwrap().get(&mark), started.0.id());
}

#[test]
fn what_cannot_start_says_whether_it_ever_will() {
    let bench = Bench::new();
    let mut launched = bench.shell("true");
    launched.program = "/no/such/program".into();
    let error = launch(&launched).unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(error.to_string(), "cannot run `/no/such/program`");

    let mut launched = bench.shell("true");
    launched.cwd = Some("/no/such/folder".into());
    let error = launch(&launched).unwrap_err();
    assert!(error.is_permanent());
    assert_eq!(
        error.to_string(),
        "the working folder `/no/such/folder` is not there"
    );

    let mut launched = bench.shell("true");
    launched.user = Some("nobody-of-that-name".to_owned());
    assert!(launch(&launched).unwrap_err().is_permanent());

    let mut launched = bench.shell("true");
    launched.log = bench.folder.path().join("no/folder/log");
    assert!(!launch(&launched).unwrap_err().is_permanent());
}

#[test]
fn a_process_knows_its_age() {
    let age = age(&ProcessId::own().unwrap()).unwrap();
    assert!(age < Duration::from_hours(24), "{age:?}");
}
