//! Asks a child every few seconds whether it still answers.
//!
//! Invariants: one question at a time; only news is told: a question that stayed unanswered, and the
//! first answer after that. Ends when the value is dropped.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::admin::AdminLink;

/// How often a child is asked.
const EVERY: Duration = Duration::from_secs(5);

/// How long it may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The questions to one process.
#[derive(Debug)]
pub struct Liveness {
    link: AdminLink,
    task: AbortHandle,
}

impl Liveness {
    /// Starts to ask over `link`; `tell` hears whether there was an answer,
    /// and says whether anybody still wants to know.
    pub fn start<T>(link: AdminLink, tell: impl Fn(bool) -> T + Send + Sync + 'static) -> Self
    where
        T: Future<Output = bool> + Send + 'static,
    {
        let asked = link.clone();
        let task = tokio::spawn(ask_on(
            move || {
                let link = asked.clone();
                async move { link.stats(LIMIT).await.is_ok() }
            },
            tell,
        ));
        Self {
            link,
            task: task.abort_handle(),
        }
    }

    /// The link over which it is asked.
    pub fn link(&self) -> &AdminLink {
        &self.link
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks until nobody wants to know. Children that start together are not asked together.
async fn ask_on<A: Future<Output = bool>, T: Future<Output = bool>>(
    ask: impl Fn() -> A,
    tell: impl Fn(bool) -> T,
) {
    let first = Instant::now() + EVERY.mul_f64(0.5 + 0.5 * fastrand::f64());
    let mut times = interval_at(first, EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_answered = true;
    loop {
        times.tick().await;
        let answered = ask().await;
        let is_news = !answered || !was_answered;
        if is_news && !tell(answered).await {
            return;
        }
        was_answered = answered;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_news_is_told() {
        let (told, mut hears) = tokio::sync::mpsc::channel(16);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let began = Instant::now();
        let task = tokio::spawn(ask_on(
            move || {
                let nth = counted.fetch_add(1, Ordering::Relaxed);
                async move { !matches!(nth, 2 | 3) }
            },
            move |answered| {
                let told = told.clone();
                async move { told.send((answered, Instant::now())).await.is_ok() }
            },
        ));
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(hears.recv().await.unwrap());
        }
        let answers: Vec<bool> = heard.iter().map(|(answered, _)| *answered).collect();
        assert_eq!(answers, [false, false, true]);
        assert_eq!(heard[1].1 - heard[0].1, EVERY);
        assert!(heard[0].1 - began >= EVERY * 2);
        tokio::time::sleep(EVERY * 10).await;
        assert!(asked.load(Ordering::Relaxed) > 12);
        assert!(hears.try_recv().is_err(), "answers are no news");
        task.abort();
    }
}
