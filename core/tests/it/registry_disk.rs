//! The embedded registry's disk: full, growing, copied while it is written, backed up.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::{
    AlarmAction, AlarmType, Client, CompactionOptions, Error, GetOptions, PutOptions, WatchOptions,
};
use skynet::{
    hint::{Hint, chain},
    registry::embedded::{
        Embedded, EmbeddedConfig, EmbeddedError, Repaired, Restored, repair, restore,
    },
    testing::{etcdctl, etcdctl_3_5, free_address},
};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::Code;

use super::registry_process::{PATIENCE, Serving};

fn in_folder(folder: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        data: Some(folder.to_owned()),
        ..EmbeddedConfig::default()
    }
}

async fn client(registry: &Embedded) -> Client {
    Client::connect([registry.url()], None).await.unwrap()
}

fn is_no_space<T: std::fmt::Debug>(refused: Result<T, Error>) -> bool {
    let Err(Error::GRpcStatus(status)) = refused else {
        return false;
    };
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(
        status.message(),
        "etcdserver: mvcc: database space exceeded"
    );
    true
}

async fn alarms(client: &mut Client) -> usize {
    let all = client.alarm(AlarmAction::Get, AlarmType::None, None);
    let alarms = all.await.unwrap();
    for alarm in alarms.alarms() {
        assert_eq!(alarm.alarm(), AlarmType::Nospace);
    }
    alarms.alarms().len()
}

/// Writes until the disk is full.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut size = 64 * 1024;
    while size > 0 {
        if file.write_all(&vec![b'x'; size]).is_err() {
            size /= 2;
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let address = free_address().unwrap();
    let Some(serving) = Serving::start_on_small_disk(address, folder.path()) else {
        return;
    };
    let mut client = serving.client().await;
    let lease = client.lease_grant(30, None).await.unwrap().id();
    let leased = Some(PutOptions::new().with_lease(lease));
    client.put("leased", "1", leased).await.unwrap();
    for idx in 0..5 {
        let key = format!("plain/{idx}");
        client.put(key, vec![b'x'; 10_000], None).await.unwrap();
    }
    let mut watch = client.watch("plain/1", None).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().created());

    // The disk as the process sees it.
    let inside = PathBuf::from(format!("/proc/{}/root", serving.pid()))
        .join(folder.path().strip_prefix("/").unwrap());
    let ballast = inside.join("ballast");
    fill(&ballast);
    let deadline = Instant::now() + PATIENCE;
    let mut n_fitted = 0;
    while !is_no_space(client.put("large", vec![b'y'; 200_000], None).await) {
        n_fitted += 1;
        assert!(Instant::now() < deadline, "{n_fitted} fitted");
    }
    // A lease takes room, too, and everything else goes on.
    assert!(is_no_space(client.lease_grant(30, None).await));
    assert_eq!(alarms(&mut client).await, 1);
    assert_eq!(client.get("plain/1", None).await.unwrap().count(), 1);
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl(), 30);
    // What makes room is done: some space was held back for it.
    client.delete("plain/1", None).await.unwrap();
    let seen = timeout(PATIENCE, watch.message()).await.unwrap();
    assert_eq!(seen.unwrap().unwrap().events().len(), 1);
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("leased", None).await.unwrap().count(), 0);
    assert_eq!(alarms(&mut client).await, 1, "still full");

    fs::remove_file(ballast).unwrap();
    // Nobody has to tell it.
    while alarms(&mut client).await > 0 {
        assert!(Instant::now() < deadline, "the alarm does not end");
        sleep(Duration::from_millis(20)).await;
    }
    client.put("again", "1", None).await.unwrap();
}

#[tokio::test]
async fn a_quota_refuses_writes_until_history_is_compacted() {
    let config = EmbeddedConfig {
        quota_bytes: 100_000,
        ..EmbeddedConfig::default()
    };
    let registry = Embedded::start(config).await.unwrap();
    let mut client = client(&registry).await;
    let mut n_fitted = 0;
    while !is_no_space(client.put("key", vec![b'x'; 10_000], None).await) {
        n_fitted += 1;
        assert!(n_fitted < 20, "there is a quota");
    }
    assert_eq!(alarms(&mut client).await, 1);
    // To disarm it without room does nothing.
    let disarm = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, None);
    assert!(disarm.await.is_ok_and(|answer| answer.alarms().is_empty()));
    assert_eq!(alarms(&mut client).await, 1);
    let newest = i64::from(n_fitted) + 1;
    client.compact(newest, None).await.unwrap();
    assert_eq!(alarms(&mut client).await, 0);
    client.put("key", "1", None).await.unwrap();
}

/// Writes `n` revisions over a hundred keys, by many writers, with leases that come and go.
async fn churn(client: &Client, n: usize) {
    const WRITERS: usize = 50;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writers.spawn(async move {
            for idx in 0..n / WRITERS {
                let key = format!("{writer}/{}", idx % 2);
                if idx % 20 == 19 {
                    let lease = client.lease_grant(600, None).await.unwrap().id();
                    let leased = Some(PutOptions::new().with_lease(lease));
                    client.put(key, vec![b'x'; 200], leased).await.unwrap();
                    client.lease_revoke(lease).await.unwrap();
                } else {
                    client.put(key, vec![b'x'; 200], None).await.unwrap();
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
}

#[tokio::test]
async fn the_file_does_not_grow_with_churn_and_shrinks_when_asked() {
    let folder = TempDir::new().unwrap();
    let config = EmbeddedConfig {
        history: 500,
        ..in_folder(folder.path())
    };
    let registry = Embedded::start(config.clone()).await.unwrap();
    let mut client = client(&registry).await;
    let length = || {
        fs::metadata(folder.path().join("registry.redb"))
            .unwrap()
            .len()
    };
    churn(&client, 1500).await;
    let early = length();
    churn(&client, 4500).await;
    let late = length();
    assert!(late <= early * 2, "{early} bytes became {late}");
    for idx in 0..40 {
        let key = format!("large/{idx}");
        client.put(key, vec![b'x'; 100_000], None).await.unwrap();
    }
    let grown = length();
    client
        .delete(
            "large/",
            Some(etcd_client::DeleteOptions::new().with_prefix()),
        )
        .await
        .unwrap();
    let newest = client.get("x", None).await.unwrap();
    let newest = newest.header().unwrap().revision();
    let physical = Some(CompactionOptions::new().with_physical());
    client.compact(newest, physical).await.unwrap();
    client.defragment().await.unwrap();
    let shrunk = length();
    assert!(
        grown > 4_000_000 && shrunk < grown / 4,
        "{grown} bytes became {shrunk}"
    );
    client.put("after", "1", None).await.unwrap();
    let hash = client.hash_kv(0).await.unwrap().hash();
    registry.stop().await;
    let registry = Embedded::start(config).await.unwrap();
    let mut client = self::client(&registry).await;
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), hash);
}

#[tokio::test]
async fn ten_thousand_revisions_survive_a_restart() {
    const HISTORY: i64 = 10_000;
    let folder = TempDir::new().unwrap();
    let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
    churn(&client(&registry).await, 11_000).await;
    registry.stop().await;

    let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
    let mut client = client(&registry).await;
    let newest = client.get("x", None).await.unwrap();
    let newest = newest.header().unwrap().revision();
    assert!(newest > HISTORY);
    let oldest = newest - HISTORY;
    let past = Some(GetOptions::new().with_all_keys().with_revision(oldest));
    assert!(client.get("", past).await.unwrap().count() > 0);
    let from = WatchOptions::new()
        .with_all_keys()
        .with_start_revision(oldest + 1);
    let mut watch = client.watch("", Some(from)).await.unwrap();
    let mut seen = oldest;
    while seen < newest {
        let response = timeout(PATIENCE, watch.message()).await.unwrap().unwrap();
        for event in response.unwrap().events() {
            let revision = event.kv().unwrap().mod_revision();
            assert!(revision == seen || revision == seen + 1);
            seen = revision;
        }
    }
}

#[tokio::test]
async fn a_copy_of_a_file_at_work_opens_or_says_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
    let client = client(&registry).await;
    let writing = tokio::spawn(async move { churn(&client, 1500).await });
    let mut n_copies = 0;
    while !writing.is_finished() || n_copies == 0 {
        let copy = TempDir::new().unwrap();
        let file = copy.path().join("registry.redb");
        fs::copy(folder.path().join("registry.redb"), &file).unwrap();
        n_copies += 1;
        match Embedded::start(in_folder(copy.path())).await {
            Ok(registry) => registry.stop().await,
            Err(error) => {
                assert!(matches!(error, EmbeddedError::Damaged { .. }), "{error:?}");
                assert!(chain(&error).contains("registry.redb"));
                assert!(error.hint().unwrap().contains("--repair"));
                match repair(copy.path()) {
                    Ok(Repaired::Saved { aside, .. } | Repaired::Rewritten { aside, .. }) => {
                        assert!(aside.exists());
                    }
                    Ok(_) => {}
                    Err(error) => panic!("{}", chain(&error)),
                }
                Embedded::start(in_folder(copy.path())).await.unwrap();
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    writing.await.unwrap();
}

/// Takes a backup with an etcdctl while others write; `None` where there is none.
async fn backup(name: &str, registry: &Embedded, file: &Path) -> Option<()> {
    let program = if name == "3.4" {
        etcdctl()
    } else {
        etcdctl_3_5()
    };
    let mut program = program.unwrap()?;
    let url = registry.url();
    let file = file.to_owned();
    let saving = tokio::task::spawn_blocking(move || {
        program
            .args(["--endpoints", &url, "snapshot", "save"])
            .arg(file)
            .output()
            .unwrap()
    });
    let writing = client(registry).await;
    let writing = tokio::spawn(async move { churn(&writing, 200).await });
    let output = saving.await.unwrap();
    writing.await.unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "etcdctl {name}: {said}");
    assert!(said.contains("napshot saved at"), "etcdctl {name}: {said}");
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_saves_backups_of_a_registry_at_work_that_can_be_restored() {
    for name in ["3.4", "3.5"] {
        let folder = TempDir::new().unwrap();
        let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
        let mut before = client(&registry).await;
        let lease = before.lease_grant(600, None).await.unwrap().id();
        let leased = Some(PutOptions::new().with_lease(lease));
        before.put("leased", "1", leased).await.unwrap();
        for value in ["1", "2"] {
            before.put("kept", value, None).await.unwrap();
            before.put("gone", value, None).await.unwrap();
        }
        before.delete("gone", None).await.unwrap();
        let file = folder.path().join("backup");
        if backup(name, &registry, &file).await.is_none() {
            continue;
        }
        let old = before.status().await.unwrap();
        let old = old.header().unwrap().clone();

        let new_folder = TempDir::new().unwrap();
        let data = new_folder.path().join("data");
        let Restored {
            revision,
            backup_revision,
            n_leases,
            ..
        } = restore(&data, &file).unwrap();
        assert!((7..=old.revision()).contains(&backup_revision));
        assert!(n_leases >= 1 && revision == backup_revision + 1_000_000_000);
        let restored = Embedded::start(in_folder(&data)).await.unwrap();
        let mut after = client(&restored).await;
        check_restored(&mut after, lease, revision, backup_revision).await;
        let new = after.status().await.unwrap();
        assert_ne!(new.header().unwrap().cluster_id(), old.cluster_id());

        refuses_what_is_no_backup(&file, &data, new_folder.path());
    }
}

async fn check_restored(client: &mut Client, lease: i64, revision: i64, backup_revision: i64) {
    let kept = client.get("kept", None).await.unwrap();
    assert_eq!(kept.header().unwrap().revision(), revision);
    let kv = &kept.kvs()[0];
    assert_eq!(kv.value(), b"2");
    assert_eq!(
        (kv.version(), kv.create_revision() < kv.mod_revision()),
        (2, true)
    );
    assert_eq!(client.get("gone", None).await.unwrap().count(), 0);
    let left = client.lease_time_to_live(lease, None).await.unwrap();
    assert!(left.granted_ttl() == 600 && left.ttl() > 500, "{left:?}");
    // Whoever was further than the backup is told that it is another history.
    let from = WatchOptions::new().with_start_revision(backup_revision + 3);
    let mut watch = client.watch("kept", Some(from)).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().created());
    let lost = watch.message().await.unwrap().unwrap();
    assert!(
        lost.canceled() && lost.compact_revision() == revision,
        "{lost:?}"
    );
    let put = client.put("kept", "3", None).await.unwrap();
    assert_eq!(put.header().unwrap().revision(), revision + 1);
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("leased", None).await.unwrap().count(), 0);
}

fn refuses_what_is_no_backup(file: &Path, occupied: &Path, folder: &Path) {
    let empty = folder.join("empty");
    // Somebody works in the other folder as well, which is said first.
    let error = restore(occupied, file).unwrap_err();
    assert!(matches!(error, EmbeddedError::Locked { .. }), "{error:?}");
    let whole = fs::read(file).unwrap();
    let damaged = folder.join("damaged");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let etcd = b"\0\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\xed\xda\x0c\xed".to_vec();
    for (bytes, why) in [
        (flipped, "its checksum differs"),
        (whole[..whole.len() - 600].to_vec(), "it is cut off"),
        (whole[..whole.len() - 512].to_vec(), "its checksum differs"),
        (etcd, "it is no backup of an embedded registry"),
    ] {
        fs::write(&damaged, bytes).unwrap();
        let error = restore(&empty, &damaged).unwrap_err();
        assert!(chain(&error).contains(why), "{}", chain(&error));
        assert!(error.hint().is_some());
    }
    restore(&empty, file).unwrap();
    let error = restore(&empty, file).unwrap_err();
    assert!(matches!(error, EmbeddedError::Occupied { .. }), "{error:?}");
}
