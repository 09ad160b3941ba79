//! What is read, told to children, and refused before anything is connected.

use std::collections::HashMap;

use super::*;

fn from(variables: &[(&str, &str)]) -> Access {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Access::read(|name| variables.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn the_environment_is_read_and_told_to_children_again() {
    assert_eq!(from(&[(USER, ""), (CA, "")]), Access::default());
    let access = from(&[
        (USER, "svc"),
        (PASSWORD, "secret"),
        (CA, "/tls/ca.pem"),
        (CERTIFICATE, "/tls/own.pem"),
        (KEY, "/tls/own.key"),
        (SERVER_NAME, "etcd"),
    ]);
    let env = access.to_env();
    assert_eq!(env.len(), 7, "what is not set is told, too");
    assert_eq!(env[PASSWORD_FILE], "");
    assert_eq!(
        Access::read(|name| env.get(name).cloned()),
        access,
        "a child has the same"
    );
    // The file wins, and is absolute for children.
    let filed = from(&[(USER, "svc"), (PASSWORD, "old"), (PASSWORD_FILE, "pw")]);
    assert_eq!(filed.password, Some(Password::File("pw".into())));
    assert!(Path::new(&filed.to_env()[PASSWORD_FILE]).is_absolute());
    assert_eq!(filed.to_env()[PASSWORD], "");
}

#[test]
fn a_password_is_never_shown() {
    let access = from(&[(USER, "svc"), (PASSWORD, "hunter2")]);
    let shown = format!(
        "{access:?} {:#?}",
        crate::registry::RegistryConfig {
            access: access.clone(),
            ..Default::default()
        }
    );
    assert!(
        shown.contains("svc") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn what_cannot_let_us_in_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let ca = file("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let key = file("key.pem", "-----BEGIN PRIVATE KEY-----\n");
    let locked = file("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
    let empty = file("empty", "\n");
    let none = folder.path().join("none").to_string_lossy().into_owned();
    for (variables, endpoint, expected) in [
        (
            &[(USER, "u")][..],
            "http://h:1",
            "for the registry a user is given, but no password",
        ),
        (
            &[(PASSWORD, "p")],
            "http://h:1",
            "for the registry a password is given, but no user",
        ),
        (
            &[(CERTIFICATE, &ca)],
            "https://h:1",
            "for the registry a certificate is given, but no key",
        ),
        (
            &[(KEY, &key)],
            "https://h:1",
            "for the registry a key is given, but no certificate",
        ),
        (
            &[(CA, &ca)],
            "http://h:1",
            "`http://h:1` is not encrypted, but certificates are given for it",
        ),
        (
            &[(CA, &none)],
            "https://h:1",
            "the CA certificate `NONE` cannot be read",
        ),
        (
            &[(CA, &key)],
            "https://h:1",
            "`KEY` holds no CA certificate",
        ),
        (
            &[(CERTIFICATE, &ca), (KEY, &locked)],
            "https://h:1",
            "`LOCKED` holds no private key",
        ),
        (
            &[(USER, "u"), (PASSWORD_FILE, &empty)],
            "http://h:1",
            "`EMPTY` holds no password",
        ),
    ] {
        let refused = from(variables).check([endpoint]).unwrap_err();
        let expected = expected
            .replace("NONE", &none)
            .replace("KEY", &key)
            .replace("LOCKED", &locked)
            .replace("EMPTY", &empty);
        assert_eq!(refused.to_string(), expected);
        assert!(refused.hint().is_some(), "{expected}");
    }
    from(&[(CA, &ca), (CERTIFICATE, &ca), (KEY, &key)])
        .check(["https://h:1"])
        .unwrap();
}

#[tokio::test]
async fn a_new_password_in_the_file_is_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "first\n").unwrap();
    let access = Access {
        user: Some("svc".into()),
        password: Some(Password::File(path.clone())),
        ..Access::default()
    };
    let password = async || access.user().await.unwrap().map(|(_, password)| password);
    assert_eq!(password().await.as_deref(), Some("first"));
    std::fs::write(&path, " second \r\n").unwrap();
    assert_eq!(password().await.as_deref(), Some(" second "));
}
