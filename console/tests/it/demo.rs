//! The demo on real processes: what is killed comes back, daemons adopt, nothing is left behind.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::TestRegistry;
use tokio::time::Instant;

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running demo. Dropping it stops it, so that a failed test leaves nothing behind either.
struct Demo {
    process: Child,
    stdout: BufReader<ChildStdout>,
    report: Value,
    temp: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_sky"))
            .args(["demo", "--headless"])
            .args(arguments)
            .env("TMPDIR", temp.path())
            .env_remove("SKYNET_REGISTRY")
            .env_remove("SKYNET_PREFIX")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let report = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the first line is no JSON: {line:?} ({error})"));
        Self {
            process,
            stdout,
            report,
            temp,
        }
    }

    fn sky(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_sky"))
            .args(["--registry", self.report["registry"].as_str().unwrap()])
            .args(["--prefix", self.report["prefix"].as_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sky {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The pids of the services' ready instances, by id.
    fn ready(&self) -> BTreeMap<String, i64> {
        self.items(&["--where", "state=ready !service=SkynetDaemon"])
            .into_iter()
            .map(|item| {
                (
                    item["uuid"].as_str().unwrap().to_owned(),
                    item["pid"].as_i64().unwrap(),
                )
            })
            .collect()
    }

    fn items(&self, selectors: &[&str]) -> Vec<Value> {
        let mut arguments = vec!["instances", "-o", "json", "--no-stats"];
        arguments.extend(selectors);
        let listing: Value = serde_json::from_str(&self.sky(&arguments)).unwrap();
        listing["items"].as_array().unwrap().clone()
    }

    /// Stops it as an operator would, and returns the counters that it prints.
    fn stop(mut self) -> (Value, PathBuf) {
        kill(self.process.id(), Signal::TERM);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the demo ended with {status}");
        let counters = serde_json::from_str(rest.trim()).unwrap();
        let left: Vec<_> = std::fs::read_dir(self.temp.path()).unwrap().collect();
        assert!(left.is_empty(), "files are left behind: {left:?}");
        (counters, self.temp.path().to_path_buf())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            kill(self.process.id(), Signal::TERM);
            let _ended = self.process.wait();
        }
    }
}

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn is_running(pid: i64) -> bool {
    skynet::instance::ProcessId::of(u32::try_from(pid).unwrap())
        .unwrap()
        .is_some()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "never seen: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_killed_comes_back_and_nothing_is_left() {
    let demo = Demo::start(&["--hosts", "2"]);
    let before = demo.ready();
    assert!(before.len() >= 20, "{} instances", before.len());
    let (victim, pid) = before
        .iter()
        .next()
        .map(|(id, pid)| (id.clone(), *pid))
        .unwrap();
    kill(u32::try_from(pid).unwrap(), Signal::KILL);
    until("the killed instance is back", || {
        demo.ready().get(&victim).is_some_and(|now| *now != pid)
    });
    let daemons = demo.report["pids"]["daemons"].as_array().unwrap().clone();
    let registry = demo.report["pids"]["registry"].as_i64().unwrap();
    let services: Vec<i64> = demo.ready().into_values().collect();
    let (counters, _) = demo.stop();
    assert!(counters["ok"].as_u64().unwrap() > 0, "{counters}");
    let all = daemons
        .iter()
        .map(|pid| pid.as_i64().unwrap())
        .chain([registry])
        .chain(services);
    for pid in all {
        assert!(!is_running(pid), "process {pid} is left behind");
    }
}

#[test]
fn a_killed_daemon_costs_nothing_and_the_next_one_adopts() {
    let demo = Demo::start(&["--hosts", "1", "--regions", "1"]);
    let before = demo.ready();
    let pid = u32::try_from(demo.report["pids"]["daemons"][0].as_i64().unwrap()).unwrap();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8(word.to_vec()).unwrap())
        .collect();
    kill(pid, Signal::KILL);
    until("the daemon is dead", || !is_running(i64::from(pid)));
    let mut next = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the next daemon is registered", || {
        demo.items(&["--service", "SkynetDaemon"])
            .iter()
            .any(|item| item["pid"] == next.id() && item["state"] == "ready")
    });
    assert_eq!(demo.ready(), before, "no instance was started again");
    let daemon = demo.items(&["--service", "SkynetDaemon"]).remove(0);
    let address = daemon["address"].as_str().unwrap();
    let listed = demo.sky(&[
        "call",
        "--address",
        address,
        "SkynetDaemon",
        "ListSubServices",
        "{}",
    ]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let children = listed["services"].as_object().unwrap();
    let adopted: Vec<&String> = children.keys().collect();
    assert_eq!(
        adopted,
        before.keys().collect::<Vec<_>>(),
        "it has adopted them all"
    );
    assert!(
        children.values().all(|child| child["running"] == true),
        "{listed}"
    );
    let (counters, _) = demo.stop();
    assert_eq!(counters["failed"], 0, "{counters}");
    let ended = next.wait().unwrap();
    assert!(
        ended.success(),
        "the daemon was asked to stop, and ended with {ended}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_given_registry_nothing_is_left_either() {
    let server = TestRegistry::embedded().await.unwrap();
    let url = server.url();
    let demo = tokio::task::spawn_blocking(move || Demo::start(&["--registry", &url]));
    let demo = demo.await.unwrap();
    let prefix = demo.report["prefix"].as_str().unwrap().to_owned();
    assert!(prefix.starts_with("/skynet-demo-"), "{prefix}");
    assert!(demo.report["pids"]["registry"].is_null());
    let config = RegistryConfig::at(&server.url()).with_prefix(&prefix);
    let registry = Registry::new(&config).unwrap();
    assert!(registry.snapshot().await.unwrap().len() >= 20);
    let (counters, _) = tokio::task::spawn_blocking(|| demo.stop()).await.unwrap();
    assert_eq!(counters["failed"], 0, "{counters}");
    let left = registry.snapshot().await.unwrap();
    assert!(left.is_empty() && left.hosts().next().is_none(), "{left:?}");
}
