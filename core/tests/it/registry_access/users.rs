//! Users: tokens that end, passwords that change, and words for what is not allowed.

use std::{path::PathBuf, time::Duration};

use skynet::{
    hint::{Hint, chain},
    instance::State,
    registry::{Access, Error, Refusal, Registry, RegistryConfig, access::Password},
};
use tokio::time::{sleep, timeout};

use crate::registry_client::identity;

use super::server::{PATIENCE, Pair, Programs, Server, on_both};

on_both!(
    a_token_that_ends_is_taken_anew,
    a_password_may_change_under_us,
    what_is_not_allowed_is_said_with_what_to_do,
    users_may_be_given_before_they_are_checked,
);

/// The seconds that a token lives unused.
const TOKEN_TTL: u64 = 1;

async fn server(programs: Programs) -> Server {
    Server::start(programs, "http", |_folder| {
        let ttl = TOKEN_TTL.to_string();
        (vec!["--auth-token-ttl".to_owned(), ttl], Vec::new())
    })
    .await
}

/// Users are checked from now on: `svc` may read and write below the prefix and nothing else.
fn check_users(server: &mut Server) {
    server.ctl(["user", "add", "root:root"]);
    server.ctl(["role", "add", "skynet"]);
    let grant = ["role", "grant-permission", "skynet", "--prefix=true"];
    server.ctl(grant.into_iter().chain(["readwrite", "/skynet/v1/"]));
    server.ctl(["user", "add", "svc:first"]);
    server.ctl(["user", "grant-role", "svc", "skynet"]);
    server.ctl(["user", "add", "stranger:first"]);
    server.ctl(["role", "add", "reader"]);
    let grant = ["role", "grant-permission", "reader", "--prefix=true"];
    server.ctl(grant.into_iter().chain(["read", "/skynet/v1/"]));
    server.ctl(["user", "add", "looker:first"]);
    server.ctl(["user", "grant-role", "looker", "reader"]);
    server.ctl(["auth", "enable"]);
    server.ctl_options = vec!["--user".to_owned(), "root:root".to_owned()];
}

fn config(server: &Server, user: &str, password: Password) -> RegistryConfig {
    RegistryConfig {
        access: Access {
            user: Some(user.to_owned()),
            password: Some(password),
            ..Access::default()
        },
        ttl: Duration::from_secs(10),
        ..RegistryConfig::at(&server.url())
    }
}

fn password_file(server: &Server, password: &str) -> PathBuf {
    let path = server.folder.path().join("password");
    std::fs::write(&path, format!("{password}\n")).unwrap();
    path
}

/// A token that nobody used for so long is gone.
async fn let_tokens_end() {
    sleep(Duration::from_secs(TOKEN_TTL + 2)).await;
}

async fn a_token_that_ends_is_taken_anew(programs: Programs) {
    let mut server = server(programs).await;
    check_users(&mut server);
    let config = config(&server, "svc", Password::Text("first".into()));
    let pair = Pair::start(&config).await;
    let lease = pair.lease();

    let_tokens_end().await;
    pair.registration.set_state(State::Pressured);
    pair.sees(State::Pressured).await;
    let_tokens_end().await;
    pair.view.resync();
    pair.registration.set_state(State::Ready);
    pair.sees(State::Ready).await;
    assert_eq!(pair.lease(), lease, "the lease was lost");

    // All tokens die with the process that keeps them.
    server.restart().await;
    pair.registration.set_state(State::Pressured);
    pair.sees(State::Pressured).await;
    pair.is_live().await;
    assert_eq!(pair.lease(), lease, "the lease was lost by a restart");
}

async fn a_password_may_change_under_us(programs: Programs) {
    let mut server = server(programs).await;
    check_users(&mut server);
    let path = password_file(&server, "first");
    let config = config(&server, "svc", Password::File(path));
    let pair = Pair::start(&config).await;
    let lease = pair.lease();

    // The registry knows the new one before the file does: longer than the lease lives.
    let changed = ["user", "passwd", "svc", "--interactive=false"];
    server.passwd(changed, "second");
    pair.registration.set_state(State::Pressured);
    sleep(config.ttl + Duration::from_secs(2)).await;
    let stands = pair.registration.stands();
    assert!(*stands.borrow(), "the entry was given up");
    password_file(&server, "second");
    pair.sees(State::Pressured).await;
    assert_eq!(pair.lease(), lease, "the lease was lost");
}

async fn what_is_not_allowed_is_said_with_what_to_do(programs: Programs) {
    let mut server = server(programs).await;
    check_users(&mut server);
    for (user, password, refusal, words) in [
        (
            "svc",
            "wrong",
            Refusal::Password,
            "authentication failed, invalid user ID or password",
        ),
        (
            "stranger",
            "first",
            Refusal::Permission,
            "permission denied",
        ),
    ] {
        let config = config(&server, user, Password::Text(password.into()));
        let error = Registry::new(&config)
            .unwrap()
            .snapshot()
            .await
            .unwrap_err();
        check(&error, refusal, words);
        assert!(!format!("{error:?} {}", chain(&error)).contains("wrong"));
    }
    // Who may only read sees everything and changes nothing.
    let service = config(&server, "svc", Password::Text("first".into()));
    let _pair = Pair::start(&service).await;
    let looker = config(&server, "looker", Password::Text("first".into()));
    let looker = Registry::new(&looker).unwrap();
    let view = looker.view();
    timeout(PATIENCE, view.ready()).await.unwrap();
    let error = looker.set_registered(&identity(1), false).await;
    check(
        &error.unwrap_err(),
        Refusal::Permission,
        "permission denied",
    );

    let nobody = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    let error = nobody.snapshot().await.unwrap_err();
    check(&error, Refusal::UserNeeded, "user name is empty");
}

#[track_caller]
fn check(error: &Error, refusal: Refusal, words: &str) {
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(error.refusal(), Some(refusal), "{error:?}");
    assert!(chain(error).contains(words), "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
}

async fn users_may_be_given_before_they_are_checked(programs: Programs) {
    let mut server = server(programs).await;
    let config = config(&server, "svc", Password::Text("first".into()));
    let pair = Pair::start(&config).await;
    let lease = pair.lease();
    check_users(&mut server);
    pair.registration.set_state(State::Pressured);
    pair.sees(State::Pressured).await;
    assert_eq!(pair.lease(), lease);
}
