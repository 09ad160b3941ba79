//! Members, authentication, locks and elections: what one node without users has to say.

use etcd_client::{Client, PermissionType};
use tonic::Code;

use super::{Conformance, Kind, assert_refused, conformance, refusal, server::call};

conformance!(
    the_only_member_is_listed,
    members_stay_as_they_are,
    authentication_is_off,
    switching_authentication_on_is_refused,
    users_and_roles,
    lock_and_election_services,
);

async fn the_only_member_is_listed(
    Conformance {
        mut client, url, ..
    }: Conformance,
) {
    let members = client.member_list().await.unwrap();
    let [member] = members.members() else {
        panic!("{members:?}");
    };
    assert_eq!(member.id(), members.header().unwrap().member_id());
    assert!(!member.name().is_empty());
    assert_eq!(member.client_urls(), [url]);
    assert!(!member.is_learner());
}

async fn members_stay_as_they_are(
    Conformance {
        mut client, kind, ..
    }: Conformance,
) {
    let member = client.status().await.unwrap().leader();
    // Etcd may leave a change of members without an answer when another one was just made, so it is
    // asked for one only.
    let removed = refusal(client.member_remove(4711).await);
    if kind != Kind::Embedded {
        let words = "etcdserver: member not found".to_owned();
        assert_eq!(removed, (Code::NotFound, words));
        return;
    }
    let peer = || vec!["http://127.0.0.1:1".to_owned()];
    for (code, words) in [
        removed,
        refusal(client.member_add(peer(), None).await),
        refusal(client.member_remove(member).await),
        refusal(client.member_update(member, peer()).await),
        refusal(client.member_promote(member).await),
    ] {
        assert_eq!(code, Code::Unimplemented, "{words}");
        assert!(words.contains("single node"), "{words}");
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthStatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct AuthStatusResponse {
    #[prost(bool, tag = "2")]
    enabled: bool,
    #[prost(uint64, tag = "3")]
    auth_revision: u64,
}

async fn authentication_is_off(
    Conformance {
        mut client,
        url,
        kind,
        ..
    }: Conformance,
) {
    let status: Result<AuthStatusResponse, _> =
        call(&url, "/etcdserverpb.Auth/AuthStatus", AuthStatusRequest {}).await;
    match kind {
        // It came with 3.5.
        Kind::Etcd34 => assert_eq!(status.unwrap_err().code(), Code::Unimplemented),
        Kind::Embedded | Kind::Etcd35 => {
            let status = status.unwrap();
            assert_eq!((status.enabled, status.auth_revision), (false, 1));
        }
    }
    client.auth_disable().await.unwrap();
    let options = etcd_client::ConnectOptions::new().with_user("root", "secret");
    let refused = Client::connect([url], Some(options)).await;
    let message = "etcdserver: authentication is not enabled";
    assert_refused(refused.map(drop), Code::FailedPrecondition, message);
}

async fn switching_authentication_on_is_refused(
    Conformance {
        mut client, kind, ..
    }: Conformance,
) {
    let (code, words) = refusal(client.auth_enable().await);
    match kind {
        Kind::Embedded => {
            assert_eq!(code, Code::Unimplemented);
            assert!(words.contains("no authentication: run etcd"), "{words}");
        }
        Kind::Etcd34 | Kind::Etcd35 => {
            assert_eq!(code, Code::FailedPrecondition);
            assert_eq!(words, "etcdserver: root user does not exist");
        }
    }
    client.put("key", "v", None).await.unwrap();
}

async fn users_and_roles(
    Conformance {
        mut client, kind, ..
    }: Conformance,
) {
    if kind != Kind::Embedded {
        assert!(client.user_list().await.unwrap().users().is_empty());
        assert!(client.role_list().await.unwrap().roles().is_empty());
        return;
    }
    let refusals = [
        user_refusals(&mut client).await,
        role_refusals(&mut client).await,
    ];
    for (code, words) in refusals.concat() {
        assert_eq!(code, Code::Unimplemented);
        let expected = "etcdserver: authentication is not enabled: the embedded registry has no";
        assert!(words.starts_with(expected), "{words}");
    }
}

async fn user_refusals(client: &mut Client) -> Vec<(Code, String)> {
    vec![
        refusal(client.user_add("u", "p", None).await),
        refusal(client.user_get("u").await),
        refusal(client.user_list().await),
        refusal(client.user_delete("u").await),
        refusal(client.user_change_password("u", "p").await),
        refusal(client.user_grant_role("u", "r").await),
        refusal(client.user_revoke_role("u", "r").await),
    ]
}

async fn role_refusals(client: &mut Client) -> Vec<(Code, String)> {
    let read = etcd_client::Permission::new(PermissionType::Read, "k");
    vec![
        refusal(client.role_add("r").await),
        refusal(client.role_get("r").await),
        refusal(client.role_list().await),
        refusal(client.role_delete("r").await),
        refusal(client.role_grant_permission("r", read).await),
        refusal(client.role_revoke_permission("r", "k", None).await),
    ]
}

async fn lock_and_election_services(
    Conformance {
        mut client, kind, ..
    }: Conformance,
) {
    let lock = client.lock("name", None).await;
    let leader = client.leader("nobody").await;
    if kind != Kind::Embedded {
        let key = lock.unwrap().key().to_vec();
        assert!(key.starts_with(b"name/"));
        client.unlock(key).await.unwrap();
        let (_, words) = refusal(leader);
        assert_eq!(words, "election: no leader");
        return;
    }
    for (code, words) in [refusal(lock), refusal(leader)] {
        assert_eq!(code, Code::Unimplemented);
        assert!(words.contains("with a key and a lease") || words.contains("keys and leases"));
    }
}
