//! Certificates: of both sides, renewed while everything runs, and words for those that do not fit.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use skynet::{
    hint::{Hint, chain},
    instance::State,
    registry::{Access, Error, Refusal, Registry, RegistryConfig},
};

use super::server::{Pair, Programs, Server, on_both};

on_both!(
    a_renewed_certificate_costs_no_lease,
    certificates_that_do_not_fit_are_told_apart,
);

type Ca = CertifiedIssuer<'static, KeyPair>;

/// An authority, and its certificate in a file.
fn authority(folder: &Path, name: &str) -> (Ca, PathBuf) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let path = folder.join(format!("{name}.pem"));
    std::fs::write(&path, ca.pem()).unwrap();
    (ca, path)
}

/// A certificate and its key in files, for this name, until a year.
fn issue(ca: &Ca, folder: &Path, file: &str, name: &str, until: i32) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let certificate = params.signed_by(&key, ca).unwrap();
    let paths = (
        folder.join(format!("{file}.pem")),
        folder.join(format!("{file}.key")),
    );
    std::fs::write(&paths.0, certificate.pem()).unwrap();
    std::fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

/// An etcd that speaks TLS and asks for certificates, with its authority.
async fn server(programs: Programs, name: &str, until: i32) -> (Server, Ca) {
    let mut authority_of_it = None;
    let server = Server::start(programs, "https", |folder| {
        let (ca, ca_file) = authority(folder, "ca");
        let (own, own_key) = issue(&ca, folder, "server", name, until);
        let (client, client_key) = issue(&ca, folder, "client", "client", 4000);
        authority_of_it = Some(ca);
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let options = vec![
            "--cert-file".to_owned(),
            text(&own),
            "--key-file".to_owned(),
            text(&own_key),
            "--client-cert-auth".to_owned(),
            "--trusted-ca-file".to_owned(),
            text(&ca_file),
        ];
        let ctl = vec![
            "--insecure-skip-tls-verify".to_owned(),
            "--cert".to_owned(),
            text(&client),
            "--key".to_owned(),
            text(&client_key),
        ];
        (options, ctl)
    })
    .await;
    (server, authority_of_it.unwrap())
}

fn access(server: &Server) -> Access {
    let file = |name| Some(server.folder.path().join(name));
    Access {
        ca: file("ca.pem"),
        certificate: file("client.pem"),
        key: file("client.key"),
        ..Access::default()
    }
}

fn config(server: &Server, access: Access) -> RegistryConfig {
    RegistryConfig {
        access,
        ttl: Duration::from_secs(10),
        ..RegistryConfig::at(&server.url())
    }
}

async fn a_renewed_certificate_costs_no_lease(programs: Programs) {
    let (mut server, ca) = server(programs, "127.0.0.1", 4000).await;
    let config = config(&server, access(&server));
    let pair = Pair::start(&config).await;
    let lease = pair.lease();

    // The registry's is renewed: it begins again with another one of the same authority, and ours
    // is renewed, too, so that the next connection shows it.
    let folder = server.folder.path().to_owned();
    issue(&ca, &folder, "server", "127.0.0.1", 3999);
    issue(&ca, &folder, "client", "client", 3999);
    server.restart().await;
    pair.registration.set_state(State::Pressured);
    pair.sees(State::Pressured).await;
    pair.is_live().await;
    assert_eq!(pair.lease(), lease, "the lease was lost");

    // Another authority takes over for both: what is on the disk counts, nothing is kept.
    let (next, _) = authority(&folder, "ca");
    issue(&next, &folder, "server", "127.0.0.1", 4000);
    issue(&next, &folder, "client", "client", 4000);
    server.restart().await;
    pair.registration.set_state(State::Ready);
    pair.sees(State::Ready).await;
    assert_eq!(pair.lease(), lease, "the lease was lost");
}

async fn certificates_that_do_not_fit_are_told_apart(programs: Programs) {
    let (sound, ca) = server(programs.clone(), "127.0.0.1", 4000).await;
    let (old, _) = server(programs.clone(), "127.0.0.1", 2001).await;
    let (other, _) = server(programs.clone(), "elsewhere.example", 4000).await;
    let plain = Server::start(programs, "http", |_| (Vec::new(), Vec::new())).await;
    let folder = sound.folder.path();
    let (_, stranger) = authority(folder, "stranger");
    let (late, late_key) = issue(&ca, folder, "late", "client", 2001);

    let good = config(&sound, access(&sound));
    Registry::new(&good).unwrap().snapshot().await.unwrap();
    let named = Access {
        server_name: Some("elsewhere.example".to_owned()),
        ..access(&other)
    };
    let named = Registry::new(&config(&other, named)).unwrap();
    named.snapshot().await.unwrap();

    let foreign = Access {
        ca: Some(stranger),
        ..access(&sound)
    };
    let over = Access {
        certificate: Some(late),
        key: Some(late_key),
        ..access(&sound)
    };
    let none = Access {
        certificate: None,
        key: None,
        ..access(&sound)
    };
    let encrypted = plain.url().replace("http://", "https://");
    let unencrypted = sound.url().replace("https://", "http://");
    for (url, access, refusal) in [
        (sound.url(), foreign, Refusal::UnknownCa),
        (old.url(), access(&old), Refusal::Expired),
        (other.url(), access(&other), Refusal::WrongName),
        (sound.url(), none, Refusal::OurCertificate),
        (sound.url(), over, Refusal::OurCertificate),
        (encrypted, access(&sound), Refusal::NotTls),
        (unencrypted, Access::default(), Refusal::OnlyTls),
    ] {
        let config = RegistryConfig {
            access,
            ..RegistryConfig::at(&url)
        };
        let error = Registry::new(&config)
            .unwrap()
            .snapshot()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert_eq!(error.refusal(), Some(refusal), "{}", chain(&error));
        assert!(error.hint().is_some());
    }
}
