//! What is particular to the embedded registry: its start, its end, its folder, its history.

use std::{fs, io::Write, net::TcpStream, path::Path, time::Duration};

use etcd_client::{Client, Error, GetOptions, PutOptions, WatchOptions};
use skynet::{
    hint::Hint,
    registry::embedded::{Embedded, EmbeddedConfig, EmbeddedError},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn client(registry: &Embedded) -> Client {
    Client::connect([registry.url()], None).await.unwrap()
}

fn in_folder(folder: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        data: Some(folder.to_owned()),
        ..EmbeddedConfig::default()
    }
}

async fn refusal(config: EmbeddedConfig) -> EmbeddedError {
    let error = Embedded::start(config).await.unwrap_err();
    assert!(error.hint().is_some(), "{error} says what to do");
    error
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = Embedded::start(EmbeddedConfig::default()).await.unwrap();
    let config = EmbeddedConfig {
        listen: first.address(),
        ..EmbeddedConfig::default()
    };
    let error = refusal(config).await;
    assert!(matches!(error, EmbeddedError::AddressInUse { .. }));
    assert!(error.to_string().contains(&first.address().to_string()));
}

#[tokio::test]
async fn only_loopback_is_listened_on_unless_it_is_allowed() {
    let config = EmbeddedConfig {
        listen: ([0, 0, 0, 0], 0).into(),
        ..EmbeddedConfig::default()
    };
    let error = refusal(config.clone()).await;
    assert!(matches!(error, EmbeddedError::NotLoopback { .. }));
    let allowed = EmbeddedConfig {
        allow_insecure: true,
        ..config
    };
    Embedded::start(allowed).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_folder_belongs_to_one_registry() {
    let folder = TempDir::new().unwrap();
    let first = Embedded::start(in_folder(folder.path())).await.unwrap();
    let error = refusal(in_folder(folder.path())).await;
    assert!(matches!(error, EmbeddedError::Locked { .. }), "{error:?}");
    first.stop().await;
    Embedded::start(in_folder(folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let error = refusal(in_folder(&file.join("data"))).await;
    assert!(matches!(error, EmbeddedError::Folder { .. }), "{error:?}");
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_not_a_panic() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("registry.redb");
    let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
    let mut client = client(&registry).await;
    for idx in 0..50 {
        client
            .put(format!("k{idx}"), vec![b'x'; 1000], None)
            .await
            .unwrap();
    }
    registry.stop().await;
    let whole = fs::read(&file).unwrap();

    fs::write(
        &file,
        "no registry at all, but a file that somebody put there",
    )
    .unwrap();
    let error = refusal(in_folder(folder.path())).await;
    assert!(matches!(error, EmbeddedError::Damaged { .. }), "{error:?}");

    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let error = refusal(in_folder(folder.path())).await;
    assert!(matches!(error, EmbeddedError::Damaged { .. }), "{error:?}");

    fs::write(&file, &whole).unwrap();
    Embedded::start(in_folder(folder.path())).await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_open_streams_and_waits_for_no_client() {
    let registry = Embedded::start(EmbeddedConfig::default()).await.unwrap();
    let mut client = client(&registry).await;
    let mut watch = client.watch("key", None).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().created());
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let (_keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    // Two that never say a word.
    let _silent = TcpStream::connect(registry.address()).unwrap();
    let _silent = TcpStream::connect(registry.address()).unwrap();

    timeout(PATIENCE, registry.stop()).await.unwrap();
    for ended in [
        watch.message().await.map(drop),
        answers.message().await.map(drop),
    ] {
        let Err(Error::GRpcStatus(status)) = ended else {
            panic!("a stream must say why it ends, not {ended:?}");
        };
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    }
    assert!(TcpStream::connect(registry.address()).is_err());
    registry.stop().await;
}

#[tokio::test]
async fn dropping_it_stops_it() {
    let folder = TempDir::new().unwrap();
    let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
    let address = registry.address();
    let mut client = client(&registry).await;
    let _watch = client.watch("key", None).await.unwrap();
    drop(registry);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let config = EmbeddedConfig {
            listen: address,
            ..in_folder(folder.path())
        };
        match Embedded::start(config).await {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < deadline, "still there: {error:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_restart_keeps_everything_and_renews_the_leases() {
    let folder = TempDir::new().unwrap();
    let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
    let mut before = client(&registry).await;
    let lease = before.lease_grant(60, None).await.unwrap().id();
    let leased = Some(PutOptions::new().with_lease(lease));
    before.put("leased", "1", leased).await.unwrap();
    for value in ["1", "2", "3"] {
        before.put("key", value, None).await.unwrap();
    }
    before.delete("key", None).await.unwrap();
    before.compact(4, None).await.unwrap();
    let hash = hash(&mut before).await;
    let old = before.status().await.unwrap();
    registry.stop().await;

    let registry = Embedded::start(in_folder(folder.path())).await.unwrap();
    let mut client = client(&registry).await;
    let new = client.status().await.unwrap();
    let [old, new] = [&old, &new].map(|status| status.header().unwrap());
    assert_eq!(
        (new.cluster_id(), new.member_id()),
        (old.cluster_id(), old.member_id())
    );
    assert_eq!((new.revision(), new.raft_term()), (6, old.raft_term() + 1));
    assert_eq!(self::hash(&mut client).await, hash);
    let at_4 = Some(GetOptions::new().with_revision(4));
    assert_eq!(
        client.get("key", at_4).await.unwrap().kvs()[0].value(),
        b"2"
    );
    let at_3 = Some(GetOptions::new().with_revision(3));
    assert!(client.get("key", at_3).await.is_err());
    let from = Some(WatchOptions::new().with_start_revision(4).with_prev_key());
    let mut watch = client.watch("key", from).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().created());
    let past = timeout(PATIENCE, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(past.events().len(), 3);
    assert_eq!(past.events()[2].prev_kv().unwrap().value(), b"3");
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("leased", None).await.unwrap().count(), 0);
}

async fn hash(client: &mut Client) -> u32 {
    client.hash_kv(0).await.unwrap().hash()
}

#[tokio::test]
async fn old_revisions_are_forgotten_by_themselves() {
    let config = EmbeddedConfig {
        history: 10,
        ..EmbeddedConfig::default()
    };
    let registry = Embedded::start(config).await.unwrap();
    let mut client = client(&registry).await;
    let mut size = 0;
    for idx in 0..200 {
        client.put("key", vec![b'x'; 1000], None).await.unwrap();
        let now = client.status().await.unwrap().raft_index();
        assert_eq!(now, idx + 2);
        size = client.status().await.unwrap().db_size();
    }
    assert!(size < 20_000, "{size} bytes are more than ten versions");
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    assert_eq!(client.get("key", at(195)).await.unwrap().count(), 1);
    assert!(client.get("key", at(100)).await.is_err());
    let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
    let mut watch = client.watch("key", from(195)).await.unwrap();
    watch.message().await.unwrap();
    let past = watch.message().await.unwrap().unwrap();
    assert_eq!(past.events().len(), 7);
    let mut watch = client.watch("key", from(100)).await.unwrap();
    watch.message().await.unwrap();
    let lost = watch.message().await.unwrap().unwrap();
    assert!(lost.canceled() && lost.compact_revision() > 100, "{lost:?}");
}

#[tokio::test]
async fn a_watcher_that_sleeps_too_long_is_told_what_it_missed() {
    let config = EmbeddedConfig {
        history: 10,
        ..EmbeddedConfig::default()
    };
    let registry = Embedded::start(config).await.unwrap();
    let mut client = client(&registry).await;
    let mut watch = client.watch("key", None).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().created());
    // Far more than the connection's window holds, and nobody reads.
    for _ in 0..60 {
        client.put("key", vec![b'x'; 200_000], None).await.unwrap();
    }
    let mut seen = 1;
    let lost = loop {
        let response = timeout(PATIENCE, watch.message()).await.unwrap();
        let response = response.unwrap().unwrap();
        if response.canceled() {
            break response;
        }
        for event in response.events() {
            seen += 1;
            assert_eq!(
                event.kv().unwrap().mod_revision(),
                seen,
                "no gap before the end"
            );
        }
    };
    assert!(lost.compact_revision() > seen, "{seen}, then {lost:?}");
    let from = WatchOptions::new().with_start_revision(lost.compact_revision());
    let mut watch = client.watch("key", Some(from)).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().created());
    let resumed = watch.message().await.unwrap().unwrap();
    assert_eq!(
        resumed.events()[0].kv().unwrap().mod_revision(),
        lost.compact_revision()
    );
}

#[tokio::test]
async fn strangers_cost_a_connection_each_and_nothing_else() {
    let registry = Embedded::start(EmbeddedConfig::default()).await.unwrap();
    let mut strangers = Vec::new();
    for idx in 0..300_usize {
        let mut stranger = TcpStream::connect(registry.address()).unwrap();
        let said: Vec<u8> = match idx % 4 {
            0 => Vec::new(),
            1 => (0..idx * 7).map(|_| fastrand::u8(..)).collect(),
            2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x04".to_vec(),
            _ => b"GET /health HTTP/1.1\r\n\r\n".to_vec(),
        };
        // It may be cut off before it has said all.
        let _ = stranger.write_all(&said);
        strangers.push(stranger);
    }
    let mut client = client(&registry).await;
    client.put("key", "v", None).await.unwrap();
    assert_eq!(client.get("key", None).await.unwrap().count(), 1);
}
