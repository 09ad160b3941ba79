//! The bench's processes, as the one that conducts them sees them: a server and a caller of each
//! peer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context as _;

use crate::load::{Load, Measured};
use crate::peers::Peer;

/// What a call costs one side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerCall {
    /// Time of the processor, of the kernel's work for it too.
    pub(crate) cpu_us: f64,
    pub(crate) allocations: f64,
    pub(crate) copied: f64,
}

/// A process that is told what to do.
struct Part {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Part {
    fn start(peer: Peer, arguments: &[&str]) -> anyhow::Result<Self> {
        let program = match peer {
            Peer::Tarpc => tarpc_program()?,
            _ => std::env::current_exe()?,
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("a process has no output")?;
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "a process of the bench ended");
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        let input = self.input.as_mut().context("a process has no input")?;
        writeln!(input, "{line}")?;
        input.flush()?;
        self.line()
    }

    /// The processor's time that all its threads have had, in nanoseconds.
    fn cpu_ns(&self) -> anyhow::Result<f64> {
        let mut sum = 0.0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split_whitespace().next().context("no time is told")?;
            sum += first.parse::<f64>()?;
        }
        Ok(sum)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.child.wait();
    }
}

/// A server's process.
pub(crate) struct Server {
    part: Part,
    /// Where to find it: an address, or a registry's.
    pub(crate) place: String,
}

impl Server {
    /// Starts one, and waits until it listens.
    pub(crate) fn start(peer: Peer) -> anyhow::Result<Self> {
        let mut part = Part::start(peer, &["serve", peer.name()])?;
        let place = part.line()?;
        Ok(Self { part, place })
    }

    /// Its resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<u64> {
        resident_kib(self.part.child.id())
    }
}

/// A peer: its server and who calls it.
pub(crate) struct Pair {
    pub(crate) peer: Peer,
    server: Server,
    caller: Part,
}

impl Pair {
    pub(crate) fn start(peer: Peer) -> anyhow::Result<Self> {
        let server = Server::start(peer)?;
        let mut caller = Part::start(peer, &["call", peer.name(), &server.place])?;
        anyhow::ensure!(caller.line()? == "ready", "a caller did not start");
        Ok(Self {
            peer,
            server,
            caller,
        })
    }

    /// One round for its speed.
    pub(crate) fn speed(&mut self, load: Load) -> anyhow::Result<Measured> {
        let answer = self.caller.ask(&line("speed", load))?;
        let [per_second, p50_us, p99_us] = numbers(&answer)?;
        Ok(Measured {
            per_second,
            p50_us,
            p99_us,
        })
    }

    /// One round for its costs: the caller's and the server's.
    pub(crate) fn costs(&mut self, load: Load) -> anyhow::Result<[PerCall; 2]> {
        let cpu_before = [self.caller.cpu_ns()?, self.server.part.cpu_ns()?];
        let answer = self.caller.ask(&line("speed", load))?;
        let [per_second, ..] = numbers::<3>(&answer)?;
        let cpu_after = [self.caller.cpu_ns()?, self.server.part.cpu_ns()?];
        let in_round = per_second * load.round.as_secs_f64();
        self.server.part.ask("count")?;
        let answer = self.caller.ask(&line("cost", load))?;
        let [calls, allocations, copied] = numbers(&answer)?;
        let served = numbers::<2>(&self.server.part.ask("counted")?)?;
        let counts = [[allocations, copied], served];
        let side = |side: usize| PerCall {
            cpu_us: (cpu_after[side] - cpu_before[side]) / 1000.0 / in_round,
            allocations: counts[side][0] / calls,
            copied: counts[side][1] / calls,
        };
        Ok([side(0), side(1)])
    }
}

fn line(what: &str, load: Load) -> String {
    let (connections, in_flight) = load.shape;
    let (bytes, ms) = (load.bytes, load.round.as_millis());
    format!("{what} {connections} {in_flight} {bytes} {ms}")
}

fn numbers<const COUNT: usize>(answer: &str) -> anyhow::Result<[f64; COUNT]> {
    let read: Result<Vec<f64>, _> = answer.split_whitespace().map(str::parse).collect();
    read?
        .try_into()
        .map_err(|_other| anyhow::anyhow!("`{answer}` is not what was asked for"))
}

/// The resident memory of a process in KiB.
pub(crate) fn resident_kib(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.context("no resident memory is told")?.parse()?)
}

/// tarpc's side is a package of its own, which is built when it is first wanted.
fn tarpc_program() -> anyhow::Result<PathBuf> {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/rpc/tarpc");
    // Beside what cargo builds for this bench: `target/release/deps/rpc-…`.
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("not run by cargo")?;
    let target = target.join("bench-tarpc");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
        ])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .stdout(Stdio::null())
        .status()?;
    anyhow::ensure!(built.success(), "tarpc's side of the bench does not build");
    Ok(target.join("release/skynet-bench-tarpc"))
}
