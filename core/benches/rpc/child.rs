//! A part of the bench that is a process of its own: told what to do by lines of its input, it
//! answers each with one line of its output, and ends with its input.

use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

use crate::cost;
use crate::load::{self, Call, Load};

fn input() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

/// Is a server that was started already; `place` is where callers find it.
pub(crate) async fn serve(place: &str) -> anyhow::Result<()> {
    println!("{place}");
    let mut lines = input();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "count" => {
                println!("counting");
                cost::begin();
            }
            "counted" => println!("{}", cost::end()),
            _ => anyhow::bail!("`{line}` is nothing that a server is told"),
        }
    }
    Ok(())
}

/// Makes calls: `speed` and `cost`, each with connections, calls in flight on each, bytes and
/// seconds. `connect` opens the connections of a round.
pub(crate) async fn call<C, F>(connect: impl Fn((usize, usize)) -> F) -> anyhow::Result<()>
where
    C: Call,
    F: Future<Output = anyhow::Result<Vec<C>>>,
{
    println!("ready");
    let mut lines = input();
    while let Some(line) = lines.next_line().await? {
        let mut words = line.split_whitespace();
        let what = words.next().unwrap_or_default().to_owned();
        let mut number = || -> anyhow::Result<usize> {
            Ok(words.next().context("a number is missing")?.parse()?)
        };
        let load = Load {
            shape: (number()?, number()?),
            bytes: number()?,
            round: Duration::from_millis(number()?.try_into()?),
        };
        let callers = load::warmed_up(connect(load.shape).await?, load).await?;
        match what.as_str() {
            "speed" => println!("{}", load::speed(callers, load).await?),
            "cost" => {
                cost::begin();
                let (calls, _) = load::calls(callers, load).await?;
                println!("{} {}", calls.len(), cost::end());
            }
            _ => anyhow::bail!("`{line}` is nothing that a caller is told"),
        }
    }
    Ok(())
}
