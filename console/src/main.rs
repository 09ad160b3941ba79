//! `sky`: shows and steers a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    skynet_console::mode::run(std::env::args_os())
}
