//! etcdctl works on the embedded registry, 3.4 and 3.5: operators look with the tool that they know.
//!
//! Each command runs on the embedded registry and on an etcd of etcdctl's own version; both must say
//! the same, but for ids, times and addresses.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use regex::Regex;
use skynet::testing::{TestRegistry, TestRegistryError, etcdctl, etcdctl_3_5};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How an etcdctl is found.
type Find = fn() -> Result<Option<Command>, TestRegistryError>;

/// An etcdctl that talks to one registry.
struct Shell {
    find: Find,
    url: String,
    /// The last lease that was granted, which commands call `LEASE`.
    lease: String,
}

impl Shell {
    fn new(find: Find, registry: &TestRegistry) -> Self {
        Self {
            find,
            url: registry.url(),
            lease: String::new(),
        }
    }

    fn command(&self, args: &str) -> Command {
        let mut command = (self.find)().unwrap().unwrap();
        let patience = format!("{}s", PATIENCE.as_secs());
        command
            .args(["--endpoints", &self.url, "--command-timeout", &patience])
            .args(args.replace("LEASE", &self.lease).split(' '))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What a command says, on stdout and then on stderr, without its log.
    fn said(&mut self, args: &str, input: &str) -> String {
        let mut child = self.command(args).spawn().unwrap();
        // It may end without having read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        if let Some(id) = said.strip_prefix("lease ")
            && said.contains("granted")
        {
            id.split(' ').next().unwrap().clone_into(&mut self.lease);
        }
        let lines = said.lines().filter(|line| !line.starts_with("{\"level\""));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What a command says, without what differs between two registries of the same content.
    fn said_plainly(&mut self, args: &str, input: &str) -> String {
        let mut said = self.said(args, input).replace(&self.url, "URL");
        for (pattern, plain) in [
            (
                r#""(cluster_id|member_id|raft_term|lease)":\d+"#,
                "\"$1\":N",
            ),
            (
                r#""(ClusterID|MemberID|RaftTerm|Lease)" : \d+"#,
                "\"$1\" : N",
            ),
            (r"\b[0-9a-f]{12,16}\b", "ID"),
            (r"took = \S+", "took = TIME"),
            (r"remaining\(\d+s\)", "remaining(TIME)"),
            (r"(?m)^\d{4}/\S+ \S+ .*$", ""),
        ] {
            let pattern = Regex::new(pattern).unwrap();
            said = pattern.replace_all(&said, plain).into_owned();
        }
        said
    }
}

/// A version of etcdctl with the two registries that it talks to.
struct Pair {
    embedded: Shell,
    etcd: Shell,
    /// End with the test.
    _registries: [TestRegistry; 2],
}

async fn pair_3_4() -> Option<Pair> {
    pair(etcdctl, TestRegistry::etcd().await.unwrap()?).await
}

async fn pair_3_5() -> Option<Pair> {
    pair(etcdctl_3_5, TestRegistry::etcd_3_5().await.unwrap()?).await
}

/// Without etcdctl the harness says so, or fails where it is required.
async fn pair(find: Find, etcd: TestRegistry) -> Option<Pair> {
    find().unwrap()?;
    let embedded = TestRegistry::embedded().await.unwrap();
    Some(Pair {
        embedded: Shell::new(find, &embedded),
        etcd: Shell::new(find, &etcd),
        _registries: [embedded, etcd],
    })
}

const IF_TWO: &str = "value(\"k\") = \"2\"\n\nput yes 1\nget k\n\nput no 1\n\n";
const IF_NEW: &str = "ver(\"new\") = \"0\"\nmod(\"k\") > \"1\"\n\nput new 1\ndel k5\n\nget new\n\n";

/// Commands that say the same on both, what they read, and a part of what they say.
const SAME: [(&str, &str, &str); 59] = [
    ("put k 1", "", "OK"),
    ("put k 2 --prev-kv", "", "OK\nk\n1"),
    ("put k2 b", "", "OK"),
    ("put k3 a", "", "OK"),
    ("put k3 --ignore-value", "", "OK"),
    ("put none --ignore-value", "", "etcdserver: key not found"),
    ("put k4", "from stdin", "OK"),
    ("put k5 c", "", "OK"),
    ("get k", "", "k\n2"),
    ("get k --rev 2", "", "k\n1"),
    (
        "get k --rev 99",
        "",
        "required revision is a future revision",
    ),
    ("get k --print-value-only", "", "2"),
    ("get k --hex", "", "\\x6b\n\\x32"),
    ("get k -w json", "", "\"mod_revision\":3"),
    ("get k -w fields", "", "\"ModRevision\" : 3"),
    ("get --prefix k", "", "k4\nfrom stdin"),
    ("get --prefix k --keys-only", "", "k\n\nk2\n\nk3"),
    ("get --prefix k --limit 2 -w json", "", "\"more\":true"),
    ("get --from-key k3", "", "k3\na\nk4"),
    ("get k2 k4", "", "k2\nb\nk3\na"),
    (
        "get --prefix k --sort-by VALUE --order DESCEND",
        "",
        "k4\nfrom stdin\nk5\nc",
    ),
    (
        "get --prefix k --sort-by MODIFY --order ASCEND",
        "",
        "k\n2\nk2\nb",
    ),
    (
        "get --prefix k --sort-by VERSION --order DESCEND --limit 1",
        "",
        "k",
    ),
    ("get --prefix k --sort-by CREATE", "", "k\n2"),
    ("get k --consistency=s", "", "k\n2"),
    ("get none", "", ""),
    ("txn", IF_TWO, "SUCCESS\n\nOK\n\nk\n2"),
    ("txn", IF_TWO, "SUCCESS"),
    ("txn", IF_NEW, "SUCCESS\n\nOK\n\n1"),
    ("txn", IF_NEW, "FAILURE\n\nnew\n1"),
    ("txn -w json", IF_NEW, "\"Response\""),
    ("del yes --prev-kv", "", "1\nyes\n1"),
    ("del none", "", "0"),
    ("del --prefix k4", "", "1"),
    ("del k2 k4", "", "2"),
    ("endpoint hashkv", "", "URL, "),
    ("endpoint health", "", "URL is healthy"),
    ("lease grant 60", "", "granted with TTL(60s)"),
    ("put leased v --lease=LEASE", "", "OK"),
    ("get leased", "", "leased\nv"),
    ("lease list", "", "found 1 leases\nID"),
    (
        "lease timetolive LEASE",
        "",
        "granted with TTL(60s), remaining(TIME)",
    ),
    (
        "lease timetolive LEASE --keys",
        "",
        "attached keys([leased])",
    ),
    (
        "lease keep-alive --once LEASE",
        "",
        "keepalived with TTL(60)",
    ),
    ("lease revoke LEASE", "", "revoked"),
    ("get leased", "", ""),
    (
        "lease revoke LEASE",
        "",
        "etcdserver: requested lease not found",
    ),
    ("lease timetolive LEASE", "", "already expired"),
    (
        "lease keep-alive --once LEASE",
        "",
        "requested lease not found",
    ),
    ("lease list", "", "found 0 leases"),
    ("compaction 4", "", "compacted revision 4"),
    ("compaction 4", "", "required revision has been compacted"),
    (
        "compaction 99",
        "",
        "required revision is a future revision",
    ),
    ("compaction 6 --physical", "", "compacted revision 6"),
    ("get k --rev 5", "", "required revision has been compacted"),
    ("alarm list", "", ""),
    ("alarm disarm", "", ""),
    ("defrag", "", "Finished defragmenting etcd member[URL]"),
    ("lock name echo held", "", "held"),
];

/// Commands that one node without users answers in its own words.
const OWN: [(&str, &[&str]); 8] = [
    ("endpoint status", &["3.5.0+skynet", "true"]),
    ("endpoint status -w json", &["\"dbSize\":", "\"revision\":"]),
    ("member list", &["started, skynet"]),
    (
        "member add other --peer-urls=http://127.0.0.1:1",
        &["single node"],
    ),
    ("move-leader 1", &["single node"]),
    ("user list", &["authentication is not enabled"]),
    ("role add name", &["authentication is not enabled"]),
    ("auth enable", &["run etcd where it is needed"]),
];

fn says_what_etcd_says(pair: &mut Pair) {
    for (args, input, part) in SAME {
        let said = pair.embedded.said_plainly(args, input);
        assert!(said.contains(part), "`etcdctl {args}` said {said}");
        let etcd_said = pair.etcd.said_plainly(args, input);
        assert_eq!(said, etcd_said, "`etcdctl {args}`");
    }
    for (args, parts) in OWN {
        let said = pair.embedded.said(args, "");
        for part in parts {
            assert!(said.contains(part), "`etcdctl {args}` said {said}");
        }
    }
    // Some commands name the server by what they were given, a URL or an address.
    let url = pair.embedded.url.clone();
    pair.embedded.url = url.replace("http://", "");
    let status = pair.embedded.said("endpoint status", "");
    pair.embedded.url = url;
    assert!(status.contains("3.5.0+skynet"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_3_4_says_the_same_on_the_embedded_registry() {
    if let Some(mut pair) = pair_3_4().await {
        says_what_etcd_says(&mut pair);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_3_5_says_the_same_on_the_embedded_registry() {
    if let Some(mut pair) = pair_3_5().await {
        says_what_etcd_says(&mut pair);
        for (args, expected) in [
            (
                "auth status",
                "Authentication Status: false\nAuthRevision: 1",
            ),
            ("get --prefix k --count-only -w fields", "\"Count\" : 1"),
        ] {
            let said = pair.embedded.said_plainly(args, "");
            assert!(said.contains(expected), "`etcdctl {args}` said {said}");
            assert_eq!(said, pair.etcd.said_plainly(args, ""), "`etcdctl {args}`");
        }
    }
}

/// The next `n_lines` lines, which must come.
async fn lines<R>(from: &mut Lines<BufReader<R>>, n_lines: usize) -> String
where
    R: tokio::io::AsyncRead + Unpin,
{
    let mut all = Vec::new();
    while all.len() < n_lines {
        let line = tokio::time::timeout(PATIENCE, from.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("silence after {all:?}"));
        all.push(line.unwrap().expect("it has ended"));
    }
    all.join("\n")
}

/// What an interactive watch says to a past, to what comes, and to who asks for the progress.
async fn watched(shell: &mut Shell) -> Vec<String> {
    for args in ["put w 1", "put w/2 a", "put w 2"] {
        shell.said(args, "");
    }
    let mut child = tokio::process::Command::from(shell.command("watch -i"))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    let past = b"watch w --prefix --rev 2 --prev-kv\n";
    input.write_all(past).await.unwrap();
    // Two creations of three lines, and a change of five.
    said.push(lines(&mut output, 3 + 3 + 5).await);
    shell.said("put w 3", "");
    said.push(lines(&mut output, 5).await);
    shell.said("del w", "");
    said.push(lines(&mut output, 5).await);
    input.write_all(b"progress\n").await.unwrap();
    said.push(lines(&mut output, 1).await);
    said
}

async fn watches_as_on_etcd(mut pair: Pair) {
    let said = watched(&mut pair.embedded).await;
    let expected = [
        "PUT\nw\n1\nPUT\nw/2\na\nPUT\nw\n1\nw\n2",
        "PUT\nw\n2\nw\n3",
        "DELETE\nw\n3\nw\n",
        "progress notify: 6",
    ];
    assert_eq!(said, expected);
    assert_eq!(said, watched(&mut pair.etcd).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_3_4_watches_as_on_etcd() {
    if let Some(pair) = pair_3_4().await {
        watches_as_on_etcd(pair).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_3_5_watches_as_on_etcd() {
    if let Some(pair) = pair_3_5().await {
        watches_as_on_etcd(pair).await;
    }
}
