//! The console in a pseudo-terminal: it starts, follows keys and sizes, and leaves the terminal as it
//! found it, whatever ends it.

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::sync::mpsc;
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
use skynet::instance::{Identity, InstanceId, ProcessId, State};
use skynet::registry::embedded::{Embedded, EmbeddedConfig};
use skynet::registry::value::InstanceValue;
use skynet::registry::{Registry, RegistryConfig};
use skynet::session::Session;
use skynet_console::tui::{TuiConfig, run_tui};
use tokio::time::Instant;

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Set in the child of [`a_panic_restores_the_terminal`].
const PANIC: &str = "SKY_TEST_PANIC";

/// A program in a pseudo-terminal, and what it has drawn.
struct Pty {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    input: Box<dyn std::io::Write + Send>,
    output: mpsc::Receiver<Vec<u8>>,
    screen: vt100::Parser,
    raw: Vec<u8>,
}

impl Pty {
    fn start(mut command: CommandBuilder, cols: u16, rows: u16) -> Self {
        let pair = native_pty_system().openpty(size(cols, rows)).unwrap();
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env_remove("NO_COLOR");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = reader.read(&mut bytes) {
                if count == 0 || sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            input: pair.master.take_writer().unwrap(),
            master: pair.master,
            child,
            output,
            screen: vt100::Parser::new(cells(rows), cells(cols), 0),
            raw: Vec::new(),
        }
    }

    fn top(registry: &str, cols: u16, rows: u16) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sky"));
        command.args(["--registry", registry, "top"]);
        Self::start(command, cols, rows)
    }

    fn press(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn until(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.screen.screen().contents()) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what} never came:\n{}",
                self.screen.screen().contents()
            );
            if let Ok(bytes) = self
                .output
                .recv_timeout(left.min(Duration::from_millis(100)))
            {
                self.screen.process(&bytes);
                self.raw.extend(bytes);
            }
        }
    }

    #[track_caller]
    fn until_text(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.process_id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for the end; returns the exit code, and all that was written.
    fn end(mut self) -> (u32, String, bool) {
        let deadline = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.exit_code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.raw.extend(bytes);
            }
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.raw.extend(bytes);
        }
        let cooked = is_cooked(self.master.as_ref());
        (
            code,
            String::from_utf8_lossy(&self.raw).into_owned(),
            cooked,
        )
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It has usually ended long ago.
        let _killed = self.child.kill();
    }
}

/// Whether the terminal echoes and reads whole lines, as programs expect to find it.
fn is_cooked(master: &dyn MasterPty) -> bool {
    let terminal = std::fs::File::open(master.tty_name().unwrap()).unwrap();
    let modes = tcgetattr(&terminal).unwrap().local_modes;
    modes.contains(LocalModes::ECHO) && modes.contains(LocalModes::ICANON)
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize {
        cols,
        rows,
        pixel_width: 0,
        pixel_height: 0,
    }
}

#[track_caller]
fn assert_restored(output: &str, cooked: bool) {
    assert!(
        output.contains("\u{1b}[?1049h"),
        "the alternate screen was entered"
    );
    let left = output.rfind("\u{1b}[?1049l");
    assert!(left.is_some(), "the alternate screen was left");
    assert!(left > output.rfind("\u{1b}[?1049h"));
    assert!(
        output.rfind("\u{1b}[?25h") > output.rfind("\u{1b}[?25l"),
        "the cursor is seen"
    );
    assert!(output.contains("\u{1b}[?2004l"), "bracketed paste is off");
    assert!(cooked, "the terminal echoes again");
}

#[test]
fn it_draws_without_a_registry_and_quits_on_the_second_q() {
    let mut pty = Pty::top(NOWHERE, 100, 30);
    pty.until_text("connecting to http://127.0.0.1:1");
    pty.press("q");
    pty.until_text("q again to quit");
    pty.press("q");
    let (code, output, cooked) = pty.end();
    assert_eq!(code, 0);
    assert_restored(&output, cooked);
}

#[test]
fn signals_end_it_and_restore_the_terminal() {
    for (signal, expected) in [(Signal::TERM, 143), (Signal::HUP, 143), (Signal::INT, 130)] {
        let mut pty = Pty::top(NOWHERE, 80, 24);
        pty.until_text("connecting");
        pty.signal(signal);
        let (code, output, cooked) = pty.end();
        assert_eq!(code, expected, "{signal:?}");
        assert_restored(&output, cooked);
    }
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let mut pty = Pty::top(NOWHERE, 120, 36);
    pty.until_text("connecting to");
    for (cols, rows, text) in [
        (20, 5, "enlarge"),
        (46, 20, "connecting to"),
        (120, 36, "?:help"),
    ] {
        pty.screen.screen_mut().set_size(cells(rows), cells(cols));
        pty.master.resize(size(cols, rows)).unwrap();
        pty.until_text(text);
    }
    pty.press("?");
    pty.until_text("Keys (Esc closes)");
    pty.press("\u{1b}");
    pty.until("the help page to go", |screen| {
        !screen.contains("Keys (Esc")
    });
    pty.signal(Signal::TERM);
    pty.end();
}

#[test]
fn a_terminal_that_reads_nothing_does_not_keep_it_alive() {
    let pair = native_pty_system().openpty(size(300, 100)).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sky"));
    command.args(["--registry", NOWHERE, "top"]);
    command.env("TERM", "xterm-256color");
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let pid = Pid::from_raw(i32::try_from(child.process_id().unwrap()).unwrap()).unwrap();
    // It cannot be seen from outside when it has begun to draw; its mode tells.
    let deadline = Instant::now() + PATIENCE;
    while is_cooked(pair.master.as_ref()) {
        assert!(Instant::now() < deadline, "it never took the terminal");
        std::thread::yield_now();
    }
    // A page that is more than a terminal keeps for whoever reads it.
    let mut input = pair.master.take_writer().unwrap();
    input.write_all(b"?").unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_what_is_registered_and_follows_keys() {
    let embedded = Embedded::start(EmbeddedConfig {
        history: 1_000,
        ..EmbeddedConfig::default()
    })
    .await
    .unwrap();
    let registry = Registry::new(&RegistryConfig::at(&embedded.url())).unwrap();
    let entries: Vec<_> = (1..=3_u32)
        .map(|number| registry.register(identity(number), value(number)))
        .collect();
    for entry in &entries {
        entry.registered().await;
    }
    let url = embedded.url();
    let shown = tokio::task::spawn_blocking(move || {
        let mut pty = Pty::top(&url, 120, 36);
        pty.until_text("3 of 3   ✓");
        pty.until_text("127.0.0.1:9003");
        pty.press("/host=host-2\r");
        pty.until_text("1 of 3   ✓");
        pty.press("\u{1b}");
        pty.until_text("3 of 3   ✓");
        pty.press("3\r\r");
        pty.until_text("service=payments version=1.0");
        pty.press(":q\r");
        pty.end()
    });
    let (code, output, cooked) = shown.await.unwrap();
    assert_eq!(code, 0);
    assert_restored(&output, cooked);
    for entry in entries {
        entry.leave().await;
    }
    embedded.stop().await;
}

fn identity(number: u32) -> Identity {
    Identity {
        service: "payments".into(),
        version: "1.0".into(),
        region: "east".into(),
        host: format!("host-{number}").into(),
        id: InstanceId::from_u128(u128::from(number)),
    }
}

fn value(number: u32) -> InstanceValue {
    let port = 9_000 + u16::try_from(number).unwrap();
    InstanceValue {
        address: ([127, 0, 0, 1], port).into(),
        admin_address: None,
        process: ProcessId {
            boot_id: "boot".into(),
            pid: number,
            process_start: 1,
        },
        started: jiff::Timestamp::now(),
        registered: true,
        state: State::Ready,
        reason: None,
        deployment: None,
        weight: 100,
        lease: 0,
        protocol: 1,
        tags: Vec::new(),
        other: serde_json::Map::new(),
    }
}

/// The child of the next test: a console beside which something panics.
#[tokio::test]
async fn panicking_console() {
    if std::env::var_os(PANIC).is_none() {
        return;
    }
    let registry = Registry::new(&RegistryConfig::at(NOWHERE)).unwrap();
    let console = run_tui(TuiConfig::new(Session::new(registry)));
    let accident = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        panic!("an accident in the loop");
    };
    tokio::select! {
        _ = console => {}
        () = accident => {}
    }
}

#[test]
fn a_panic_restores_the_terminal() {
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "tui_pty::panicking_console", "--nocapture"]);
    command.env(PANIC, "1");
    let mut pty = Pty::start(command, 80, 24);
    pty.until_text("connecting to");
    let (code, output, cooked) = pty.end();
    assert_ne!(code, 0);
    assert_restored(&output, cooked);
    let left = output.rfind("\u{1b}[?1049l").unwrap();
    let told = output.rfind("an accident in the loop").unwrap();
    assert!(told > left, "the message stands on the restored screen");
}
