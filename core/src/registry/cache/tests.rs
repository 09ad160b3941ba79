use proptest::prelude::*;

use super::*;
use crate::instance::{Identity, InstanceId, ProcessId};

const NOW: &str = "2026-01-20T12:00:00Z";
const PREFIX: &str = "/p";

/// Whether a file was passed over for the right reason.
type Is = fn(&Passed) -> bool;

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn process() -> ProcessId {
    ProcessId {
        boot_id: "b".into(),
        pid: 7,
        process_start: 70,
    }
}

fn instance(id: u128, state: State) -> Instance {
    Instance {
        identity: Identity {
            service: "a/b c".into(),
            version: "1".into(),
            region: String::new().into(),
            host: "h".into(),
            id: InstanceId::from_u128(id),
        },
        address: Some("127.0.0.1:9000".parse().unwrap()),
        admin_address: Some("127.0.0.1:9001".parse().unwrap()),
        registered: id.is_multiple_of(2),
        state,
        reason: Some("why \"not\"".into()),
        process: Some(process()),
        started: now(),
        deployment: Some("d".into()),
        weight: 50,
        lease: 77,
        tags: vec!["x".into(), "y".into()],
        mod_revision: 40 + i64::try_from(id % 1_000).unwrap(),
    }
}

fn host() -> Host {
    Host {
        name: "h".into(),
        region: "east".into(),
        address: "127.0.0.1:9000".parse().unwrap(),
        process: process(),
        started: now(),
        mod_revision: 12,
    }
}

fn noted(instances: impl IntoIterator<Item = Instance>) -> Noted {
    let mut snapshot = Snapshot::of(instances, [host()]);
    snapshot.set_position(99);
    Noted {
        snapshot: Arc::new(snapshot),
        cluster: Some(Uuid::from_u128(5)),
        at: now(),
    }
}

fn file_of(noted: &Noted) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/cache");
    write_file(&path, PREFIX, noted).unwrap();
    (folder, path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_written_reads_as_it_was(
        ids in prop::collection::btree_set(any::<u128>(), 0..20),
        state in prop::sample::select(vec![
            State::Starting, State::Ready, State::Pressured, State::Draining, State::Leaving, State::Dead,
        ]),
    ) {
        let noted = noted(ids.iter().map(|id| instance(*id, state)));
        let (_folder, path) = file_of(&noted);
        let cached = read_file(&path, PREFIX, now()).unwrap().unwrap();
        let rows = |snapshot: &Snapshot| snapshot.instances().cloned().collect::<Vec<_>>();
        prop_assert_eq!(rows(&cached.snapshot), rows(&noted.snapshot));
        prop_assert_eq!(cached.snapshot.hosts().map(|host| Host::clone(host)).collect::<Vec<_>>(), vec![host()]);
        prop_assert_eq!(cached.snapshot.revision(), 0, "the registry counts");
        prop_assert_eq!((cached.cluster, cached.written), (noted.cluster, noted.at));
    }

    #[test]
    fn damaged_bytes_are_an_error_or_a_view_and_never_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (_folder, path) = file_of(&noted([instance(1, State::Ready)]));
        let mut bytes = fs::read(path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(read_bytes(&bytes, PREFIX, now()));
        prop_assert!(read_bytes(&bytes[..at], PREFIX, now()).is_err(), "cut off at {}", at);
    }
}

#[test]
fn a_suspect_is_not_remembered() {
    let (_folder, path) = file_of(&noted([
        instance(1, State::Suspect),
        instance(2, State::Ready),
    ]));
    let text = fs::read_to_string(&path).unwrap();
    let cached = read_file(&path, PREFIX, now()).unwrap().unwrap();
    assert_eq!(cached.snapshot.len(), 1);
    // Nor is it believed when somebody else wrote it.
    let text = text.replace("\"ready\"", "\"suspect\"");
    let cached = read_bytes(text.as_bytes(), PREFIX, now()).unwrap();
    assert_eq!(cached.snapshot.len(), 0);
}

#[test]
fn what_cannot_be_used_is_passed_over_and_what_is_not_ours_is_kept() {
    let (_folder, path) = file_of(&noted([instance(1, State::Ready)]));
    let whole = fs::read_to_string(&path).unwrap();
    let later = |days: i64| now() + SignedDuration::from_hours(24 * days);
    let half = whole.chars().take(whole.len() / 2).collect::<String>();
    let no_row = whole.replace("\"boot_id\"", "\"boot\"");
    let newer = r#"{"format":2,"tables":[]}"#.to_owned();
    let table: [(&str, &str, &str, i64, Is, bool); 7] = [
        (
            "cut off",
            &half,
            PREFIX,
            0,
            |it| matches!(it, Passed::Damaged(_)),
            false,
        ),
        (
            "a row that is none",
            &no_row,
            PREFIX,
            0,
            |it| matches!(it, Passed::Damaged(_)),
            false,
        ),
        (
            "a newer program's",
            &newer,
            PREFIX,
            0,
            |it| matches!(it, Passed::Format { found: 2 }),
            true,
        ),
        (
            "another cluster's",
            &whole,
            "/q",
            0,
            |it| matches!(it, Passed::Foreign { .. }),
            true,
        ),
        (
            "old",
            &whole,
            PREFIX,
            8,
            |it| matches!(it, Passed::TooOld { .. }),
            false,
        ),
        (
            "notes",
            "buy milk",
            PREFIX,
            0,
            |it| matches!(it, Passed::Strange),
            true,
        ),
        (
            "other JSON",
            "{\"a\":1}",
            PREFIX,
            0,
            |it| matches!(it, Passed::Strange),
            true,
        ),
    ];
    for (what, text, prefix, days, is, kept) in table {
        let passed = read_bytes(text.as_bytes(), prefix, later(days)).unwrap_err();
        assert!(is(&passed), "{what}: {passed}");
        assert_eq!(passed.is_not_ours(), kept, "{what}");
    }
    assert!(read_bytes(whole.as_bytes(), PREFIX, later(6)).is_ok());
    // A clock that was put back makes nothing old.
    assert!(read_bytes(whole.as_bytes(), PREFIX, later(-400)).is_ok());
}

#[test]
fn a_file_is_replaced_as_a_whole_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = file_of(&noted([instance(1, State::Ready)]));
    write_file(&path, PREFIX, &noted([instance(2, State::Ready)])).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "nothing is left beside it");
    // What has just been written tells what was noted before it, and nothing later.
    let before = Timestamp::now() - SignedDuration::from_secs(1);
    assert!(is_told(&path, before));
    assert!(!is_told(
        &path,
        Timestamp::now() + SignedDuration::from_secs(1)
    ));
    assert!(
        !is_told(&path, before - SignedDuration::from_hours(1)),
        "a clock was put back"
    );
    // No file and an empty one are no fault; a folder is somebody else's.
    let folder = path.parent().unwrap();
    assert!(
        read_file(&folder.join("none"), PREFIX, now())
            .unwrap()
            .is_none()
    );
    fs::write(folder.join("empty"), "").unwrap();
    assert!(
        read_file(&folder.join("empty"), PREFIX, now())
            .unwrap()
            .is_none()
    );
    assert!(read_file(folder, PREFIX, now()).unwrap_err().is_not_ours());
}
