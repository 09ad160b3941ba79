//! What a registry's no means and what is to be done about it: one table of codes and words.
//!
//! Pure. etcd gives one code to several refusals and sometimes two codes to one, so the words
//! decide first and the code only where no words are known. Its words are those of
//! `api/v3rpc/rpctypes/error.go` of 3.4 and 3.5; those of certificates are rustls's, and the alerts
//! of TLS that a server sends. It knows nothing of endpoints and calls.

use tonic::Code;

use crate::hint::{Hint, Retry};

/// Why the registry, or the way to it, said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The user or its password is wrong.
    Password,
    /// It wants a user, and none is given.
    UserNeeded,
    /// The user may not do that with these keys.
    Permission,
    /// The token that stands for the user is no longer good.
    Token,
    /// It checks no users, so it hands out no token.
    NoUsersChecked,
    /// It has no space left: nothing is written until that is mended; leases go on.
    Full,
    /// It cannot write to its disk: nothing is written until it can; leases go on.
    Disk,
    /// It has too much to do.
    TooBusy,
    /// It cannot decide now: no leader, another leader, or none of its words in time.
    NoLeader,
    /// Its members contradict each other.
    Corrupt,
    /// The value or the transaction is larger than it takes.
    TooLarge,
    /// The lease is not, or no longer, there.
    LeaseGone,
    /// A lease of that id is there already.
    LeaseThere,
    /// The revision that was asked for has been compacted.
    Compacted,
    /// The revision that was asked for is still to come: the registry went back, if it was seen.
    Future,
    /// Its certificate is of a CA that is not ours.
    UnknownCa,
    /// Its certificate is over, or not yet begun.
    Expired,
    /// Its certificate is for another name.
    WrongName,
    /// It wants a certificate from us, or does not like ours.
    OurCertificate,
    /// We speak TLS, and it does not.
    NotTls,
    /// It speaks TLS, and we do not.
    OnlyTls,
    /// Nobody listens there.
    Nobody,
}

/// What is to be done about a failed exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This endpoint, or the way to it, failed: another one may do better.
    NextEndpoint,
    /// Wait, then ask the same again, here or elsewhere.
    Later,
    /// Authenticate again, then ask the same again.
    Authenticate,
    /// Every endpoint would say the same, now and later.
    Final,
}

/// Words that an answer holds, and what they mean.
struct Rule(&'static str, Refusal, Verdict);

/// The first rule whose words are in the answer counts.
const RULES: &[Rule] = &[
    // Users and permissions.
    Rule(
        "authentication failed, invalid user",
        Refusal::Password,
        Verdict::Final,
    ),
    Rule("user name not found", Refusal::Password, Verdict::Final),
    Rule(
        "user name is empty",
        Refusal::UserNeeded,
        Verdict::Authenticate,
    ),
    Rule("permission denied", Refusal::Permission, Verdict::Final),
    Rule("invalid auth token", Refusal::Token, Verdict::Authenticate),
    Rule(
        "invalid auth management",
        Refusal::Token,
        Verdict::Authenticate,
    ),
    Rule("auth store is old", Refusal::Token, Verdict::Authenticate),
    Rule(
        "authentication is not enabled",
        Refusal::NoUsersChecked,
        Verdict::Final,
    ),
    // Load and space.
    Rule("database space exceeded", Refusal::Full, Verdict::Final),
    Rule(
        "could not write to its disk",
        Refusal::Disk,
        Verdict::NextEndpoint,
    ),
    Rule("too many requests", Refusal::TooBusy, Verdict::Later),
    Rule("request is too large", Refusal::TooLarge, Verdict::Final),
    Rule(
        "too many operations in txn",
        Refusal::TooLarge,
        Verdict::Final,
    ),
    Rule("larger than max", Refusal::TooLarge, Verdict::Final),
    // Members that cannot answer though others may.
    Rule("no leader", Refusal::NoLeader, Verdict::NextEndpoint),
    // Raft's own words, with the code Unknown: the node has just lost its leader.
    Rule(
        "raft proposal dropped",
        Refusal::NoLeader,
        Verdict::NextEndpoint,
    ),
    Rule("not leader", Refusal::NoLeader, Verdict::NextEndpoint),
    Rule("leader changed", Refusal::NoLeader, Verdict::NextEndpoint),
    Rule(
        "request timed out",
        Refusal::NoLeader,
        Verdict::NextEndpoint,
    ),
    Rule("server stopped", Refusal::NoLeader, Verdict::NextEndpoint),
    Rule(
        "unhealthy cluster",
        Refusal::NoLeader,
        Verdict::NextEndpoint,
    ),
    Rule("not capable", Refusal::NoLeader, Verdict::NextEndpoint),
    Rule(
        "not supported for learner",
        Refusal::NoLeader,
        Verdict::NextEndpoint,
    ),
    Rule("corrupt cluster", Refusal::Corrupt, Verdict::Final),
    // What is not there.
    Rule(
        "requested lease not found",
        Refusal::LeaseGone,
        Verdict::Final,
    ),
    Rule("lease already exists", Refusal::LeaseThere, Verdict::Final),
    Rule("has been compacted", Refusal::Compacted, Verdict::Final),
    Rule("is a future revision", Refusal::Future, Verdict::Final),
    // Certificates; another endpoint may have another one.
    Rule("UnknownIssuer", Refusal::UnknownCa, Verdict::NextEndpoint),
    Rule("BadSignature", Refusal::UnknownCa, Verdict::NextEndpoint),
    Rule(
        "certificate expired",
        Refusal::Expired,
        Verdict::NextEndpoint,
    ),
    Rule(
        "certificate not valid yet",
        Refusal::Expired,
        Verdict::NextEndpoint,
    ),
    Rule(
        "certificate not valid for",
        Refusal::WrongName,
        Verdict::NextEndpoint,
    ),
    Rule("tls handshake eof", Refusal::NotTls, Verdict::NextEndpoint),
    Rule("InvalidContentType", Refusal::NotTls, Verdict::NextEndpoint),
    // Whoever has never answered and closes unencrypted connections; see `Endpoint::hears`.
    Rule(
        "because of a broken pipe",
        Refusal::OnlyTls,
        Verdict::NextEndpoint,
    ),
    Rule(
        "onnection reset by peer",
        Refusal::OnlyTls,
        Verdict::NextEndpoint,
    ),
    Rule(
        "received fatal alert",
        Refusal::OurCertificate,
        Verdict::NextEndpoint,
    ),
];

/// What an answer means: `code` is gRPC's, where it came that far.
pub(super) fn classify(code: Option<Code>, words: &str) -> (Verdict, Option<Refusal>) {
    if let Some(Rule(_, refusal, verdict)) = RULES.iter().find(|rule| words.contains(rule.0)) {
        return (*verdict, Some(*refusal));
    }
    match code {
        Some(Code::Unauthenticated) => (Verdict::Authenticate, Some(Refusal::Token)),
        Some(Code::PermissionDenied) => (Verdict::Final, Some(Refusal::Permission)),
        // Not in etcd's own words: a proxy before it, or another server of its API.
        Some(Code::ResourceExhausted) => (Verdict::Later, Some(Refusal::TooBusy)),
        Some(Code::NotFound) => (Verdict::Final, Some(Refusal::LeaseGone)),
        Some(
            Code::InvalidArgument
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented,
        ) => (Verdict::Final, None),
        _ => (Verdict::NextEndpoint, None),
    }
}

impl Refusal {
    /// Whether the way to the endpoint is shut for a reason that does not pass by itself, so that
    /// waiting for it is in vain.
    pub(super) fn shuts_the_way(self) -> bool {
        matches!(
            self,
            Self::UnknownCa
                | Self::Expired
                | Self::WrongName
                | Self::OurCertificate
                | Self::NotTls
                | Self::OnlyTls
                | Self::Nobody
        )
    }

    /// Whether an operator must do something before it ends.
    pub(super) fn needs_an_operator(self) -> bool {
        !matches!(
            self,
            Self::Token
                | Self::NoUsersChecked
                | Self::TooBusy
                | Self::NoLeader
                | Self::LeaseGone
                | Self::LeaseThere
                | Self::Compacted
                | Self::Future
                | Self::Nobody
        )
    }

    /// Whether the same may be tried again.
    pub(super) fn retry(self) -> Retry {
        match self {
            Self::TooBusy | Self::Token => Retry::Safe,
            Self::NoLeader | Self::Disk => Retry::IfIdempotent,
            _ => Retry::Never,
        }
    }
}

impl Hint for Refusal {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Password => {
                "`--registry-user` and the password (`--registry-password-file` or \
                 `SKYNET_REGISTRY_PASSWORD`) must be those that `etcdctl user add` was given"
            }
            Self::UserNeeded => {
                "the registry checks users: give `--registry-user` and `--registry-password-file`, \
                 or `SKYNET_REGISTRY_USER` and `SKYNET_REGISTRY_PASSWORD`"
            }
            Self::Permission => {
                "the user's role must allow reading and writing below the prefix: \
                 `etcdctl role grant-permission ROLE --prefix=true readwrite /skynet/v1/`"
            }
            Self::Full => {
                "the registry only reads until it has space again: `etcdctl compact REVISION`, \
                 `etcdctl defrag`, then `etcdctl alarm disarm`; what runs goes on"
            }
            Self::Disk => {
                "the registry's disk fails: its log and the system's say how; what runs goes on, and \
                 it writes again by itself as soon as it can"
            }
            Self::TooBusy => "the registry has too much to do: try again later",
            Self::NoLeader => {
                "most of the registry's members must run and reach each other: \
                 `etcdctl endpoint status --cluster` shows them"
            }
            Self::Corrupt => {
                "`etcdctl alarm list` names the member that differs: take it out and add it empty"
            }
            Self::TooLarge => {
                "etcd takes 1.5 MiB: fewer or shorter tags and labels, or less at once"
            }
            Self::UnknownCa => {
                "`--registry-ca` must name the CA that signed the registry's certificate"
            }
            Self::Expired => {
                "the registry's certificate is over, or this machine's clock is wrong: renew it"
            }
            Self::WrongName => {
                "the registry's certificate must name the host of the endpoint; \
                 `--registry-server-name` says which name it has instead"
            }
            Self::OurCertificate => {
                "the registry wants a certificate that its `--trusted-ca-file` signed: \
                 give `--registry-cert` and `--registry-key`"
            }
            Self::NotTls => "the endpoint speaks no TLS: write `http://` before it",
            Self::OnlyTls => "the endpoint may speak TLS only: write `https://` before it",
            Self::Token
            | Self::NoUsersChecked
            | Self::LeaseGone
            | Self::LeaseThere
            | Self::Compacted
            | Self::Future
            | Self::Nobody => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests;
