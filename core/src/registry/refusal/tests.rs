//! The table: etcd's own answers with their codes, and what becomes of them.

use super::*;

/// Code, words, verdict, refusal.
const ANSWERS: &str = "\
InvalidArgument | etcdserver: authentication failed, invalid user ID or password | Final | Password
FailedPrecondition | etcdserver: user name not found | Final | Password
InvalidArgument | etcdserver: user name is empty | Authenticate | UserNeeded
Unauthenticated | etcdserver: invalid auth token | Authenticate | Token
Unknown | etcdserver: invalid auth token | Authenticate | Token
InvalidArgument | etcdserver: revision of auth store is old | Authenticate | Token
Unauthenticated | jwt expired | Authenticate | Token
PermissionDenied | etcdserver: permission denied | Final | Permission
PermissionDenied | denied by the proxy | Final | Permission
FailedPrecondition | etcdserver: authentication is not enabled | Final | NoUsersChecked
ResourceExhausted | etcdserver: too many requests | Later | TooBusy
ResourceExhausted | etcdserver: mvcc: database space exceeded | Final | Full
Unavailable | etcdserver: the registry could not write to its disk | NextEndpoint | Disk
ResourceExhausted | quota | Later | TooBusy
ResourceExhausted | grpc: received message larger than max (3000000 vs. 2097152) | Final | TooLarge
InvalidArgument | etcdserver: request is too large | Final | TooLarge
InvalidArgument | etcdserver: too many operations in txn request | Final | TooLarge
Unavailable | etcdserver: no leader | NextEndpoint | NoLeader
Unknown | raft proposal dropped | NextEndpoint | NoLeader
FailedPrecondition | etcdserver: not leader | NextEndpoint | NoLeader
Unavailable | etcdserver: leader changed | NextEndpoint | NoLeader
Unavailable | etcdserver: request timed out | NextEndpoint | NoLeader
Unavailable | etcdserver: request timed out, possibly due to previous leader failure | NextEndpoint | NoLeader
Unavailable | etcdserver: request timed out, possibly due to connection lost | NextEndpoint | NoLeader
Unavailable | etcdserver: server stopped | NextEndpoint | NoLeader
Unavailable | etcdserver: unhealthy cluster | NextEndpoint | NoLeader
FailedPrecondition | etcdserver: rpc not supported for learner | NextEndpoint | NoLeader
DataLoss | etcdserver: corrupt cluster | Final | Corrupt
NotFound | etcdserver: requested lease not found | Final | LeaseGone
OutOfRange | etcdserver: mvcc: required revision has been compacted | Final | Compacted
OutOfRange | etcdserver: mvcc: required revision is a future revision | Final | Future
InvalidArgument | etcdserver: duplicate key given in txn request | Final | -
FailedPrecondition | etcdserver: lease already exists | Final | LeaseThere
Unimplemented | unknown service | Final | -
Unavailable | transport error | NextEndpoint | -
Unknown | Connection reset by peer | NextEndpoint | OnlyTls
Unknown | stream closed because of a broken pipe | NextEndpoint | OnlyTls
Unknown | tls handshake eof | NextEndpoint | NotTls
Unknown | invalid peer certificate: UnknownIssuer | NextEndpoint | UnknownCa
Unknown | received fatal alert: CertificateRequired | NextEndpoint | OurCertificate
DeadlineExceeded | context deadline exceeded | NextEndpoint | -
Cancelled | operation was canceled | NextEndpoint | -
Unknown | h2 protocol error | NextEndpoint | -
Internal | stream terminated | NextEndpoint | -
";

#[test]
fn every_answer_of_etcd_has_its_meaning() {
    let mut rows = 0;
    for line in ANSWERS.lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [code, words, verdict, refusal] = cells[..] else {
            panic!("{line}")
        };
        let code = (0..17)
            .map(Code::from_i32)
            .find(|known| format!("{known:?}") == code);
        assert!(code.is_some(), "{line}");
        let (found, why) = classify(code, words);
        let why = why.map_or("-".to_owned(), |why| format!("{why:?}"));
        assert_eq!(
            (format!("{found:?}"), why),
            (verdict.to_owned(), refusal.to_owned()),
            "{line}"
        );
        rows += 1;
    }
    assert_eq!(rows, 44);
}

#[test]
fn every_refusal_that_needs_an_operator_says_what_to_do() {
    for Rule(words, refusal, _) in RULES {
        if refusal.needs_an_operator() {
            assert!(refusal.hint().is_some(), "{words}");
        }
    }
}
