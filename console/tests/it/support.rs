//! A small cluster in this process, the built `sky` beside it, and a terminal to run it in.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use skynet::demo::test_service;
use skynet::instance::InstanceId;
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::Service;
use skynet::testing::TestRegistry;
use tokio::process::Command;

/// How long anything may take on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The built program.
pub(crate) const SKY: &str = env!("CARGO_BIN_EXE_sky");

/// A registry and three instances of `TestService`: version 1 in the east and the west, version 2 in
/// the west.
pub(crate) struct Cluster {
    pub(crate) server: TestRegistry,
    pub(crate) registry: Registry,
    pub(crate) services: Vec<Service>,
}

/// What a run of `sky` has written, and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let server = TestRegistry::embedded().await.unwrap();
        let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
        let mut services = Vec::new();
        for (id, version, region, host) in [
            (0xa1, "1", "east", "host-a"),
            (0xb1, "1", "west", "host-b"),
            (0xb2, "2", "west", "host-b"),
        ] {
            let builder = test_service::builder()
                .version(version)
                .region(region)
                .host(host)
                .id(InstanceId::from_u128(id << 120))
                .drain(Duration::ZERO, Duration::from_secs(1));
            services.push(builder.start(&registry).await.unwrap());
        }
        let cluster = Self {
            server,
            registry,
            services,
        };
        cluster.until(|snapshot| snapshot.len() == 3).await;
        cluster
    }

    /// Waits until the registry shows what is wanted.
    pub(crate) async fn until(
        &self,
        wanted: impl FnMut(&Arc<skynet::registry::snapshot::Snapshot>) -> bool,
    ) {
        let view = self.registry.view();
        let mut changes = view.changes();
        tokio::time::timeout(PATIENCE, changes.wait_for(wanted))
            .await
            .unwrap()
            .unwrap();
    }

    /// Runs `sky` with these arguments, separated by white space.
    pub(crate) async fn sky(&self, line: &str) -> Run {
        self.run(&line.split_whitespace().collect::<Vec<_>>(), "")
            .await
    }

    /// Runs `sky` with these arguments and this standard input.
    pub(crate) async fn run(&self, args: &[&str], input: &str) -> Run {
        let mut run = run(args, &[("SKYNET_REGISTRY", &self.server.url())], input).await;
        for (index, service) in self.services.iter().enumerate() {
            let address = service.address().to_string();
            run.stdout = run.stdout.replace(&address, &format!("ADDRESS-{index}"));
            run.stderr = run.stderr.replace(&address, &format!("ADDRESS-{index}"));
        }
        run
    }
}

/// Runs `sky` and waits for its end.
pub(crate) async fn run(args: &[&str], env: &[(&str, &str)], input: &str) -> Run {
    use std::process::Stdio;
    use tokio::io::AsyncWriteExt;

    let mut child = Command::new(SKY)
        .args(args)
        .env_remove("SKYNET_REGISTRY")
        .env_remove("SKYNET_PREFIX")
        .env("NO_COLOR", "1")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read its input may have ended already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A text without what differs from run to run: ages, and the widths that come with them.
pub(crate) fn steady(text: &str) -> String {
    let word = |word: &str| {
        let age = word
            .strip_suffix('s')
            .is_some_and(|number| number.parse::<u64>().is_ok());
        if age {
            "AGE".to_owned()
        } else {
            word.to_owned()
        }
    };
    let lines = text.lines().map(|line| {
        line.split_whitespace()
            .map(word)
            .collect::<Vec<_>>()
            .join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A program in a pseudo-terminal, and its screen.
pub(crate) struct Terminal {
    screen: Arc<Screen>,
    writer: Arc<Mutex<Box<dyn Write + Send>>>,
    child: Box<dyn Child + Send + Sync>,
    drawing: JoinHandle<()>,
    _master: Box<dyn MasterPty + Send>,
}

struct Screen {
    parser: Mutex<vt100::Parser>,
    changed: Condvar,
}

impl Terminal {
    /// Starts `sky` with these arguments.
    pub(crate) fn start(
        args: &[&str],
        (cols, rows): (u16, u16),
        env: &HashMap<&str, String>,
    ) -> Self {
        let size = PtySize {
            rows,
            cols,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(SKY);
        command.args(args);
        command.env("TERM", "xterm-256color");
        command.env("LC_ALL", "C.UTF-8");
        command.env_remove("NO_COLOR");
        for (name, value) in env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let reader = pair.master.try_clone_reader().unwrap();
        let writer = Arc::new(Mutex::new(pair.master.take_writer().unwrap()));
        let screen = Arc::new(Screen {
            parser: Mutex::new(vt100::Parser::new(
                rows.try_into().unwrap(),
                cols.try_into().unwrap(),
                200,
            )),
            changed: Condvar::new(),
        });
        let (drawn, answers) = (Arc::clone(&screen), Arc::clone(&writer));
        let drawing = std::thread::spawn(move || drawn.draw(reader, &answers));
        Self {
            screen,
            writer,
            child,
            drawing,
            _master: pair.master,
        }
    }

    /// Types.
    pub(crate) fn send(&self, text: &str) {
        let mut writer = self.writer.lock().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.flush().unwrap();
    }

    /// Waits until the screen holds a text, and gives the screen.
    #[track_caller]
    pub(crate) fn until(&self, wanted: &str) -> String {
        let guard = self.screen.parser.lock().unwrap();
        let lacks = |parser: &mut vt100::Parser| !parser.screen().contents().contains(wanted);
        let (guard, waited) = self
            .screen
            .changed
            .wait_timeout_while(guard, PATIENCE, lacks)
            .unwrap();
        let contents = guard.screen().contents();
        assert!(!waited.timed_out(), "`{wanted}` did not come:\n{contents}");
        contents
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.process_id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal)
            .unwrap();
    }

    /// Waits for the program's end; gives its exit code and whether the terminal is as it was.
    pub(crate) fn end(mut self) -> (u32, bool) {
        let (say, ended) = std::sync::mpsc::channel();
        let mut killer = self.child.clone_killer();
        let waiter = std::thread::spawn(move || {
            let code = self.child.wait().unwrap().exit_code();
            // The last bytes are still on their way when the program has ended.
            self.drawing.join().unwrap();
            say.send(code).unwrap();
            self.screen
        });
        let Ok(code) = ended.recv_timeout(PATIENCE) else {
            killer.kill().unwrap();
            panic!("the program did not end");
        };
        let screen = waiter.join().unwrap();
        let parser = screen.parser.lock().unwrap();
        let now = parser.screen();
        (
            code,
            !now.alternate_screen() && !now.hide_cursor() && !now.bracketed_paste(),
        )
    }
}

impl Screen {
    fn draw(&self, mut reader: Box<dyn Read + Send>, answers: &Mutex<Box<dyn Write + Send>>) {
        const WHERE_IS_THE_CURSOR: &[u8] = b"\x1b[6n";
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            let mut rest = bytes.get(..count).unwrap_or_default();
            let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
            let asks = |rest: &[u8]| {
                rest.windows(WHERE_IS_THE_CURSOR.len())
                    .position(|part| part == WHERE_IS_THE_CURSOR)
            };
            while let Some(at) = asks(rest) {
                let (before, after) = rest.split_at(at + WHERE_IS_THE_CURSOR.len());
                parser.process(before);
                rest = after;
                let (row, column) = parser.screen().cursor_position();
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                // A program that has gone needs no answer.
                let _ = write!(answers, "\x1b[{};{}R", row + 1, column + 1);
                let _ = answers.flush();
            }
            parser.process(rest);
            self.changed.notify_all();
        }
    }
}
