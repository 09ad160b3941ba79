//! etcdctl works on the embedded registry: operators look with the tool that they know.

use std::{
    io::{ErrorKind, Write},
    process::{Command, Output, Stdio},
};

use skynet::registry::embedded::{Embedded, EmbeddedConfig};

/// Runs etcdctl; `None` where there is none, which is a failure where it is required.
fn etcdctl(endpoint: &str, args: &[&str], input: &str) -> Option<Output> {
    let spawned = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint, "--command-timeout", "20s"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let required = std::env::var("SKYNET_REQUIRE_ETCD").is_ok_and(|value| value == "1");
            assert!(!required, "`etcdctl` is required and not on the PATH");
            let _ = writeln!(
                std::io::stderr(),
                "!!! etcdctl is not on the PATH: its test did NOT run (install `etcd-client`) !!!"
            );
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    Some(child.wait_with_output().unwrap())
}

/// What one command says, on stdout and then on stderr.
fn said(endpoint: &str, command: &str, input: &str) -> Option<String> {
    let args: Vec<_> = command.split(' ').collect();
    let output = etcdctl(endpoint, &args, input)?;
    Some(String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_works_on_the_embedded_registry() {
    let registry = Embedded::start(EmbeddedConfig::default()).await.unwrap();
    let url = registry.url();
    let if_two = "value(\"k\") = \"2\"\n\nput yes 1\nget k\n\nput no 1\n\n";
    let cases: [(&str, &str, &[&str]); 19] = [
        ("put k 1", "", &["OK"]),
        ("put k 2 --prev-kv", "", &["OK", "k\n1"]),
        ("get k", "", &["k\n2"]),
        ("get k --rev 2", "", &["k\n1"]),
        ("get --prefix k --keys-only", "", &["k\n"]),
        ("txn", if_two, &["SUCCESS", "OK", "k\n2"]),
        ("get yes", "", &["yes\n1"]),
        ("lease grant 60", "", &["granted with TTL(60s)"]),
        ("lease list", "", &["found 1 leases"]),
        ("lease keep-alive --once 7", "", &["lease not found"]),
        ("lease timetolive 7", "", &["already expired"]),
        ("del yes --prev-kv", "", &["1\nyes\n1"]),
        ("compaction 3", "", &["compacted revision 3"]),
        (
            "compaction 3",
            "",
            &["required revision has been compacted"],
        ),
        ("endpoint health", "", &["is healthy"]),
        ("endpoint status", "", &["3.5.0+skynet", "true"]),
        ("endpoint hashkv", "", &["127.0.0.1"]),
        ("member list", "", &["started, skynet"]),
        ("snapshot save /dev/null/no", "", &["Error"]),
    ];
    for (command, input, expected) in cases {
        let Some(said) = said(&url, command, input) else {
            return;
        };
        for part in expected {
            assert!(said.contains(part), "`etcdctl {command}` said {said}");
        }
    }
    // Some commands name the server by what they were given, a URL or an address.
    let status = said(&registry.address().to_string(), "endpoint status", "").unwrap();
    assert!(status.contains("3.5.0+skynet"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_watches_and_keeps_leases() {
    let registry = Embedded::start(EmbeddedConfig::default()).await.unwrap();
    let url = registry.url();
    let endpoint = url.as_str();
    let Some(granted) = etcdctl(endpoint, &["lease", "grant", "60"], "") else {
        return;
    };
    let granted = String::from_utf8(granted.stdout).unwrap();
    let id = granted.split(' ').nth(1).unwrap();
    let run = |args: &[&str]| {
        let output = etcdctl(endpoint, args, "").unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["put", "leased", "v", "--lease", id]);
    let left = run(&["lease", "timetolive", id, "--keys"]);
    assert!(left.contains("attached keys([leased])"), "{left}");
    let kept = run(&["lease", "keep-alive", "--once", id]);
    assert!(kept.contains("keepalived with TTL(60)"), "{kept}");
    let revoked = run(&["lease", "revoke", id]);
    assert!(revoked.contains("revoked"), "{revoked}");
    // What it runs for the first event ends it.
    let watched = run(&[
        "watch",
        "--rev",
        "1",
        "leased",
        "--",
        "sh",
        "-c",
        "kill $PPID",
    ]);
    assert!(watched.starts_with("PUT\nleased\nv\n"), "{watched}");
    let lock = run(&["lock", "name", "echo", "held"]);
    assert!(lock.contains("held"), "{lock}");
}
