//! The commands, as scripts use them.

use skynet::demo::test_service::NAME;

use crate::support::{Cluster, PATIENCE, SKY, run, steady};

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_tables_json_and_names() {
    let cluster = Cluster::start().await;
    let table = cluster.sky("instances").await;
    insta::assert_snapshot!(steady(&table.stdout), @r#"
    SERVICE VERSION REGION HOST ADDRESS REG STATE UPTIME UUID
    TestService 1 east host-a ADDRESS-0 yes ready AGE a1000000
    TestService 1 west host-b ADDRESS-1 yes ready AGE b1000000
    TestService 2 west host-b ADDRESS-2 yes ready AGE b2000000
    "#);
    let hosts = cluster.sky("versions --region west").await;
    insta::assert_snapshot!(hosts.stdout, @r#"
    SERVICE      VERSION  REGIONS  HOSTS  INSTANCES  REGISTERED  READY
    TestService  1              1      1          1           1      1
    TestService  2              1      1          1           1      1
    "#);
    let topology = cluster.sky("topology").await;
    insta::assert_snapshot!(topology.stdout, @r#"
    east
      host-a
        TestService
          1
            ADDRESS-0
    west
      host-b
        TestService
          1
            ADDRESS-1
          2
            ADDRESS-2
    "#);
    let names = cluster.sky("services -o name").await;
    assert_eq!(names.stdout, "service/TestService\n");
    let names = cluster.sky("instances --version 2 -o name").await;
    assert_eq!(
        names.stdout,
        "instance/b2000000-0000-0000-0000-000000000000\n"
    );
    let read_back = cluster
        .run(
            &["instances", "--instance", "-", "-o", "name"],
            &names.stdout,
        )
        .await;
    assert_eq!(read_back.stdout, names.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_instances_have_the_promised_shape() {
    let cluster = Cluster::start().await;
    let json = cluster.sky("instances --host host-a -o json").await;
    let object: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(object["schema"], "sky.v1");
    assert!(object["at"].is_string());
    let item = &object["items"][0];
    let keys: Vec<&String> = item.as_object().unwrap().keys().collect();
    insta::assert_snapshot!(format!("{keys:?}"), @r#"
    ["uuid", "service", "version", "region", "host", "address", "port", "admin_address", "registered", "state", "pid", "clients", "inflight", "requests", "avg_us", "started", "last", "p50_us", "p99_us", "reason"]
    "#);
    for (key, kind) in [
        ("uuid", "string"),
        ("service", "string"),
        ("version", "string"),
        ("region", "string"),
        ("host", "string"),
        ("address", "string"),
        ("port", "number"),
        ("admin_address", "string"),
        ("registered", "bool"),
        ("state", "string"),
        ("pid", "number"),
        ("clients", "number"),
        ("inflight", "number"),
        ("requests", "number"),
        ("avg_us", "number"),
        ("started", "string"),
        ("last", "null"),
        ("p50_us", "number"),
        ("p99_us", "number"),
        ("reason", "null"),
    ] {
        let found = match &item[key] {
            serde_json::Value::Null => "null",
            serde_json::Value::Bool(_) => "bool",
            serde_json::Value::Number(_) => "number",
            serde_json::Value::String(_) => "string",
            _ => "other",
        };
        assert_eq!(found, kind, "{key} in {item}");
    }
    let without = cluster
        .sky("instances --host host-a -o jsonl --no-stats")
        .await;
    let item: serde_json::Value = serde_json::from_str(&without.stdout).unwrap();
    assert!(item["requests"].is_null() && item["started"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_new_spellings_select_the_same() {
    let cluster = Cluster::start().await;
    let wanted = cluster
        .sky("instances --service TestService --version 1 --region west -o name")
        .await;
    assert_eq!(wanted.stdout.lines().count(), 1);
    for line in [
        "instances -service=TestService -version=1 -region=west -o name",
        "instances -service TestService -version 1 -regions west -o name",
        "-service=TestService:1 -region=west instances -o name",
        "instances --services TestService:1 --hosts host-b -o name",
        "instances --where region=west&version=1 -o name",
        "instances --service Test*:1 --registered --region west,nowhere -o name",
    ] {
        assert_eq!(cluster.sky(line).await.stdout, wanted.stdout, "{line}");
    }
    let by_address = cluster
        .sky("instances --host 127.0.0.1 --sort version:desc --limit 1 -o name")
        .await;
    assert_eq!(by_address.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_has_its_exit_code() {
    let cluster = Cluster::start().await;
    for (line, code) in [
        ("instances --service nothing", 0),
        ("instances --service nothing --fail-empty", 3),
        ("instances --where avg>5x", 2),
        ("instances --sort colour", 2),
        ("instances -o yaml", 2),
        ("", 2),
        ("stop", 2),
        ("stop --where Test --yes", 2),
        ("stop --service TestService", 2),
        ("stop --service nothing --yes", 3),
        ("stop --service TestService --yes --expect 7", 8),
        ("stop --service TestService --dry-run", 0),
        ("start --all --yes", 3),
        ("deploy ./x --yes", 2),
        ("help exit-codes", 0),
        ("completions bash", 0),
        ("help nothing", 2),
        ("call --address 127.0.0.1:1 X Y", 5),
    ] {
        let ended = cluster.sky(line).await;
        assert_eq!(ended.code, code, "{line}: {ended:?}");
        // An empty listing is no failure, and still says so.
        let is_told = code != 0 || line == "instances --service nothing";
        assert_eq!(is_told, !ended.stderr.is_empty(), "{line}: {ended:?}");
    }
    assert_eq!(
        cluster
            .sky("instances -o name")
            .await
            .stdout
            .lines()
            .count(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_told() {
    let away = run(
        &["--registry", "http://127.0.0.1:1", "services", "-o", "json"],
        &[],
        "",
    )
    .await;
    assert_eq!((away.code, &*away.stdout), (5, ""));
    let told: serde_json::Value = serde_json::from_str(&away.stderr).unwrap();
    assert_eq!(told["code"], 5);
    assert!(told["hint"].as_str().unwrap().contains("--registry"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_point_at_their_place() {
    let cluster = Cluster::start().await;
    let told = cluster
        .run(&["instances", "--where", "regoin=east avg>5ms"], "")
        .await;
    insta::assert_snapshot!(told.stderr, @r#"
    error: `regoin=east avg>5ms` is no filter
      regoin=east avg>5ms
      ^^^^^^ there is no field `regoin`
    hint: did you mean `region`?
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_shown_then_made() {
    let cluster = Cluster::start().await;
    let shown = cluster.sky("unregister --host host-a --dry-run").await;
    insta::assert_snapshot!(shown.stdout, @r#"
    Unregister 1 instance
    SERVICE      VERSION  REGION  UNREGISTER  REGISTERED LEFT
    TestService  1        east             1  1 → 0 (−100%)

    ADDRESS-0  TestService 1  east  host-a
    "#);
    let made = cluster
        .sky("unregister --host host-a --yes --expect 1 -o json")
        .await;
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(made["items"][0]["outcome"], "done");
    let listed = cluster.sky("instances --registered=no -o name").await;
    assert_eq!(
        listed.stdout,
        "instance/a1000000-0000-0000-0000-000000000000\n"
    );
    // Nobody has started it but this test, so its own admin port stops it.
    let stopped = cluster.sky("stop --host host-a --yes").await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    cluster.until(|snapshot| snapshot.len() == 2).await;
    // And nobody can start it again.
    let restarted = cluster.sky("restart --version 2 --yes").await;
    assert_eq!(restarted.code, 1, "{restarted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_by_address_and_through_the_registry() {
    let cluster = Cluster::start().await;
    let input = r#"{"data": "straße"}"#;
    let address = cluster.services.first().unwrap().address().to_string();
    for args in [
        &["call", "--address", &address, NAME, "Upcase", input][..],
        &["call", NAME, "Upcase", input],
        &["call", "TestService:2", "Upcase", input],
    ] {
        let called = cluster.run(args, "").await;
        assert_eq!(
            (called.code, &*called.stdout),
            (0, "{\"data\":\"STRASSE\"}\n"),
            "{called:?}"
        );
    }
    let from_input = cluster.run(&["call", NAME, "Upcase", "-"], input).await;
    assert_eq!(from_input.code, 0, "{from_input:?}");
    for (line, code) in [
        ("call TestService Upcase [1]", 2),
        ("call TestService Nothing", 1),
        ("call TestService Upcase {\"data\":7}", 1),
        ("call --deadline 300ms Nothing Upcase", 3),
    ] {
        let failed = cluster.sky(line).await;
        assert_eq!(
            (failed.code, &*failed.stdout),
            (code, ""),
            "{line}: {failed:?}"
        );
    }
    let wrong = cluster
        .run(&["call", "--address", &address, "Other", "Upcase"], "")
        .await;
    assert_eq!(wrong.code, 4, "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_failure() {
    use std::process::Stdio;

    let cluster = Cluster::start().await;
    let mut child = tokio::process::Command::new(SKY)
        .args(["instances", "-o", "json"])
        .env("SKYNET_REGISTRY", cluster.server.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_from_a_pipe_run_in_the_shell() {
    let cluster = Cluster::start().await;
    let lines = "# a comment\nservice TestService:1\nregion west\nfilters\nversions\nreset region\n\
                 instances where\nstop\nundo\ncall TestService Upcase {\"data\": \"x\"}\nexit\nnonsense\n";
    let run = cluster.run(&["cli"], lines).await;
    insta::assert_snapshot!(run.stdout, @r#"
    service     TestService:1
    region      west
    SERVICE      VERSION  REGIONS  HOSTS  INSTANCES  REGISTERED  READY
    TestService  1              1      1          1           1      1
    {"data":"X"}
    "#);
    insta::assert_snapshot!(run.stderr, @r#"
    Nothing matches.
    Without `where` there would be 2.
    error: `stop` cannot be confirmed without a terminal
    hint: `sky stop … --yes` does it without asking
    "#);
    assert_eq!(run.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_says_where_it_is_and_ends_on_sigterm() {
    use std::process::Stdio;
    use tokio::io::{AsyncBufReadExt, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(SKY)
        .args(["registry", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let url = line
        .split([' ', ','])
        .find(|word| word.starts_with("http://"))
        .unwrap()
        .to_owned();
    let listed = run(&["--registry", &url, "instances"], &[], "").await;
    let told = "Nothing is registered below `/skynet/v1`.\n";
    assert_eq!((listed.code, &*listed.stderr), (0, told));
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_read_are_told_beside_what_was_asked_for() {
    let Some(mut etcdctl) = skynet::testing::etcdctl().unwrap() else {
        return;
    };
    let cluster = Cluster::start().await;
    let key = "/skynet/v1/instances/S/1/r/h/6f1c9b2e-0b1d-4c58-9a8e-000000000001";
    let endpoints = format!("--endpoints={}", cluster.server.url());
    let put = etcdctl.args([&endpoints, "put", key, "{"]).status();
    assert!(put.unwrap().success());
    for line in ["instances -o json", "topology -o json", "hosts -o json"] {
        let told = cluster.sky(line).await;
        assert_eq!(told.code, 0, "{told:?}");
        let _json: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        assert!(told.stderr.contains("1 value of the registry"), "{told:?}");
        assert!(told.stderr.contains(key), "{told:?}");
    }
    let told = cluster
        .sky("stop --dry-run --service TestService -o json")
        .await;
    assert!(told.stderr.contains("1 value of the registry"), "{told:?}");
}
