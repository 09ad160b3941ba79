//! A client in a program without tokio: `cargo run -p skynet --example blocking -- hello world`, with
//! `sky registry` and the example `service` running.

use serde::{Deserialize, Serialize};
use skynet::blocking::{Client, Error};
use skynet::hint::{Hint, chain};
use skynet::registry::RegistryConfig;

#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn raise(words: Vec<String>) -> Result<(), Error> {
    let client = Client::connect(&RegistryConfig::from_env())?;
    let upcase = client.service("service=Upcase".parse().expect("this is a query"));
    // One after the other would be `upcase.call("Upcase", &text)`; here 16 are under way at once.
    let inputs: Vec<Text> = words.into_iter().map(|data| Text { data }).collect();
    for answer in upcase.calls::<_, Text>("Upcase", inputs, 16) {
        println!("{}", answer?.data);
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "errors are for people")]
fn main() -> std::process::ExitCode {
    match raise(std::env::args().skip(1).collect()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            std::process::ExitCode::FAILURE
        }
    }
}
