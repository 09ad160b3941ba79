//! The exchanges with etcd: each with a deadline, at one endpoint after the other until one answers.
//!
//! etcd-client spreads calls over all endpoints, dead ones included, so each endpoint has a client
//! of its own, and one of them is current. Invariants: every call has a deadline, and one exchange
//! in flight at most; an endpoint that fails is left at once and its connection thrown away, unless
//! it says itself that there is no leader. What answers mean stands in [`super::refusal`], who is next in [`super::rotation`]. This file and its
//! siblings below `registry/` are the only ones that name the etcd client.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::Client;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use super::access::Access;
use super::dial::Dial;
use super::endpoint::{Endpoint, Failure};
use super::error::{Cause, Error};
use super::refusal::{Refusal, Verdict};
use super::rotation::Rotation;
use super::said::Said;
use crate::backoff::Backoff;
use crate::hint::{Hint, chain};

/// The first and the longest pause before an endpoint is asked again when all have failed, or when
/// the registry has too much to do.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// The least such pause when every endpoint has said that there is no leader: elections take longer.
const ELECTION_PAUSE: Duration = Duration::from_millis(300);
/// When the way to every endpoint is shut, waiting longer does not help the one who asks; those who
/// cannot do without ask again.
const SHUT_FOR: Duration = Duration::from_secs(1);
/// How often the same trouble is told to the log.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// All endpoints of one registry.
pub(super) struct Etcd {
    dial: Dial,
    access: Access,
    endpoints: Vec<Endpoint>,
    /// Never held across an await.
    rotation: Mutex<Rotation>,
    call_timeout: Duration,
    told: Mutex<Option<(Refusal, Instant)>>,
}

impl Etcd {
    pub(super) fn new(
        dial: Dial,
        urls: &[String],
        access: Access,
        call_timeout: Duration,
    ) -> Result<Self, Error> {
        if urls.is_empty() {
            return Err(Error::NoEndpoint);
        }
        let endpoints = urls
            .iter()
            .map(|url| endpoint_url(url, access.wants_tls()).map(Endpoint::new))
            .collect::<Result<Vec<_>, Error>>()?;
        access.check(endpoints.iter().map(|endpoint| endpoint.url.as_str()))?;
        Ok(Self {
            dial,
            access,
            rotation: Mutex::new(Rotation::new(endpoints.len(), by_chance)),
            endpoints,
            call_timeout,
            told: Mutex::new(None),
        })
    }

    /// The endpoints, for messages.
    pub(super) fn names(&self) -> String {
        self.urls().join(", ")
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.endpoints
            .iter()
            .map(|endpoint| endpoint.url.clone())
            .collect()
    }

    /// The same endpoints, for reads of what one node knows; in a test, over its connections.
    pub(super) fn without_quorum(&self) -> Result<Self, Error> {
        let dial = match &self.dial {
            Dial::Network | Dial::Leaderless => Dial::Leaderless,
            #[cfg(feature = "testing")]
            Dial::Simulated(connector) => Dial::Simulated(std::sync::Arc::clone(connector)),
        };
        Self::new(dial, &self.urls(), self.access.clone(), self.call_timeout)
    }

    /// Whether reads are answered by one node, whatever the others know.
    pub(super) fn reads_one_node(&self) -> bool {
        self.dial.is_leaderless()
    }

    /// How long a call may take, unless it says otherwise.
    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Runs one exchange; on a failure of the connection, the next endpoint gets it, until the
    /// call's time is over. `exchange` must therefore be safe to repeat: reads, guarded
    /// transactions, and writes of the same value.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the exchange; the registry may still carry it out.
    pub(super) async fn call<T, F>(
        &self,
        operation: &'static str,
        exchange: impl FnMut(Client) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.call_within(self.call_timeout, operation, exchange)
            .await
            .map(|(value, _connection)| value)
    }

    /// Opens a stream in the same way, and tells on which connection: [`Self::leave`] takes that
    /// when the stream fails.
    ///
    /// # Cancel safety
    /// As [`Self::call`].
    pub(super) async fn open<T, F>(
        &self,
        operation: &'static str,
        exchange: impl FnMut(Client) -> F,
    ) -> Result<(T, usize), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.call_within(self.call_timeout, operation, exchange)
            .await
    }

    /// The same within another time.
    ///
    /// # Cancel safety
    /// As [`Self::call`].
    pub(super) async fn call_within<T, F>(
        &self,
        time: Duration,
        operation: &'static str,
        mut exchange: impl FnMut(Client) -> F,
    ) -> Result<(T, usize), Error>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut asking = Asking::new(time);
        loop {
            if let Some(within) = asking.over(self.endpoints.len()) {
                return Err(self.given_up(operation, within, asking.last));
            }
            let (index, share) = {
                let rotation = self.rotation();
                (rotation.current(), rotation.share(time))
            };
            let asked = Instant::now();
            let mut used = None;
            let attempt = self.attempt(index, &mut exchange, &mut used);
            match timeout(share.min(asking.left()), attempt).await {
                Ok(Ok(answer)) => {
                    let mut rotation = self.rotation();
                    let is_late = asked.elapsed() > rotation.usual_share(time);
                    rotation.worked(index, is_late);
                    return Ok(answer);
                }
                Ok(Err(Failure::Access(error))) => return Err(Error::Access(error)),
                Ok(Err(Failure::Said(said))) if self.is_final(&said) => {
                    return Err(self.refused(operation, said));
                }
                Ok(Err(Failure::Said(said))) => {
                    let moves = said.verdict == Verdict::NextEndpoint;
                    // The node itself has spoken, so the way to it is good: while there is no
                    // leader, everybody would connect anew to everybody, again and again.
                    let spoken = said.refusal == Some(Refusal::NoLeader);
                    let least = if spoken { ELECTION_PAUSE } else { PAUSES.0 };
                    asking.note(said);
                    if moves && spoken {
                        self.rotation()
                            .failed(index, false, Instant::now(), by_chance);
                    } else if moves {
                        self.move_on(index, used, false);
                    }
                    // Nobody waits for the first of several to fail, only for all of them.
                    if !moves || asking.failed.is_multiple_of(self.endpoints.len()) {
                        asking.pause(least).await;
                    }
                }
                Err(elapsed) => {
                    asking.note_silence(elapsed);
                    self.move_on(index, used, true);
                }
            }
        }
    }

    fn is_final(&self, said: &Said) -> bool {
        match said.verdict {
            Verdict::Final => true,
            Verdict::Authenticate => self.access.user.is_none(),
            Verdict::NextEndpoint | Verdict::Later => false,
        }
    }

    /// One exchange at one endpoint, with another token if that is all that it takes.
    async fn attempt<T, F>(
        &self,
        index: usize,
        exchange: &mut impl FnMut(Client) -> F,
        used: &mut Option<usize>,
    ) -> Result<(T, usize), Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let endpoint = &self.endpoints[index % self.endpoints.len()];
        let mut connection = endpoint.connection(&self.dial, &self.access).await?;
        let mut renewed = false;
        loop {
            *used = Some(connection.number);
            let said = match exchange(Client::clone(&connection.client)).await {
                Ok(value) => {
                    endpoint.worked();
                    return Ok((value, connection.number));
                }
                Err(error) => endpoint.hears(Said::from(error)),
            };
            let is_token = said.verdict == Verdict::Authenticate && self.access.user.is_some();
            if !is_token || renewed {
                return Err(Failure::Said(said));
            }
            renewed = true;
            // Boxed, because it is rare and large.
            connection = Box::pin(endpoint.renew_token(&connection, &self.access)).await?;
        }
    }

    /// Leaves the endpoint of a connection on which a stream failed, if it still stands.
    pub(super) fn leave(&self, connection: usize) {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if endpoint.disconnect(connection) {
                self.rotation()
                    .failed(index, false, Instant::now(), by_chance);
            }
        }
    }

    /// Takes note of a watch that the registry cancelled in these words: if it may be for our
    /// token, the next one is opened with another.
    pub(super) fn cancelled(&self, connection: usize, words: &str) {
        let said = Said::words(words);
        // etcd 3.4 calls a token that is over a lack of permission, too.
        let is_token = matches!(
            said.refusal,
            Some(Refusal::Permission | Refusal::Token | Refusal::UserNeeded)
        );
        if is_token && self.access.user.is_some() {
            for endpoint in &self.endpoints {
                endpoint.disconnect(connection);
            }
        } else if said.verdict == Verdict::NextEndpoint {
            self.leave(connection);
        }
    }

    /// Throws the connection away that was used at an endpoint, and makes another one current.
    fn move_on(&self, index: usize, used: Option<usize>, silent: bool) {
        let endpoint = &self.endpoints[index % self.endpoints.len()];
        // If another connection stands by now, it may do better.
        if used.is_none_or(|number| endpoint.disconnect(number)) {
            self.rotation()
                .failed(index, silent, Instant::now(), by_chance);
        }
    }

    fn rotation(&self) -> MutexGuard<'_, Rotation> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, operation: &'static str, said: Said) -> Error {
        let refusal = said.refusal;
        self.tell(Error::Refused {
            operation,
            refusal,
            source: Box::new(said),
        })
    }

    /// What to say when the time is over.
    fn given_up(&self, operation: &'static str, within: Duration, last: Option<Cause>) -> Error {
        let answered = last
            .as_ref()
            .and_then(|last| last.downcast_ref::<Said>())
            .filter(|said| said.verdict != Verdict::NextEndpoint);
        if let Some(said) = answered {
            // There is only no end to what it says.
            return self.refused(operation, said.clone());
        }
        self.tell(Error::Unreachable {
            operation,
            endpoints: self.names(),
            within,
            source: last,
        })
    }

    /// Tells the log, too, of what does not end without an operator: who asks in the background
    /// only tries again.
    fn tell(&self, error: Error) -> Error {
        let Some(refusal) = error
            .refusal()
            .filter(|refusal| refusal.needs_an_operator())
        else {
            return error;
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new =
            told.is_none_or(|(before, when)| before != refusal || when.elapsed() >= TELL_EVERY);
        if is_new {
            *told = Some((refusal, Instant::now()));
            let hint = refusal.hint().unwrap_or_default();
            tracing::warn!(hint, "{}", chain(&error));
        }
        error
    }
}

/// How one call goes.
struct Asking {
    began: Instant,
    time: Duration,
    pauses: Backoff,
    /// What was heard last.
    last: Option<Cause>,
    /// Attempts that failed.
    failed: usize,
    /// The last of them that failed because no way leads to the endpoint.
    shut: usize,
}

impl Asking {
    fn new(time: Duration) -> Self {
        Self {
            began: Instant::now(),
            time,
            pauses: Backoff::new(PAUSES.0, PAUSES.1),
            last: None,
            failed: 0,
            shut: 0,
        }
    }

    fn left(&self) -> Duration {
        self.time.saturating_sub(self.began.elapsed())
    }

    /// Whether to give up, and how long it was tried.
    fn over(&self, endpoints: usize) -> Option<Duration> {
        let all_shut = self.shut >= endpoints && self.began.elapsed() >= SHUT_FOR;
        if all_shut {
            Some(SHUT_FOR)
        } else {
            self.left().is_zero().then_some(self.time)
        }
    }

    fn note(&mut self, said: Said) {
        self.failed += 1;
        let is_shut = said.refusal.is_some_and(Refusal::shuts_the_way);
        self.shut = if is_shut { self.shut + 1 } else { 0 };
        // A reason with a name says more than a connection that breaks off.
        let named = self
            .last
            .as_ref()
            .and_then(|last| last.downcast_ref::<Said>())
            .is_some_and(|last| last.refusal.is_some());
        if said.refusal.is_some() || !named {
            self.last = Some(Box::new(said));
        }
    }

    fn note_silence(&mut self, elapsed: Elapsed) {
        self.failed += 1;
        self.shut = 0;
        // Words say more than silence.
        self.last.get_or_insert_with(|| Box::new(elapsed));
    }

    async fn pause(&mut self, least: Duration) {
        sleep(self.pauses.next_wait().max(least).min(self.left())).await;
    }
}

fn by_chance(choices: usize) -> usize {
    fastrand::usize(..choices)
}

/// An endpoint as it is dialled; without a scheme it has the one that fits the certificates.
fn endpoint_url(given: &str, wants_tls: bool) -> Result<String, Error> {
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| given.starts_with(scheme));
    let rest = scheme
        .and_then(|scheme| given.strip_prefix(scheme))
        .unwrap_or(given)
        .trim_end_matches('/');
    if rest.contains(['/', ' ', '@']) || !rest.contains(':') {
        return Err(Error::BadEndpoint {
            endpoint: without_user(given),
        });
    }
    let usual = if wants_tls { "https://" } else { "http://" };
    Ok(format!("{}{rest}", scheme.unwrap_or(usual)))
}

/// An endpoint as it may be shown: what stands before an `@` may be a password.
fn without_user(given: &str) -> String {
    let Some((user, host)) = given.rsplit_once('@') else {
        return given.to_owned();
    };
    let scheme = user.split_once("://").map_or("", |(scheme, _)| scheme);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}***@{host}")
}

/// Whether the registry says that a lease is not (or no longer) there.
pub(super) fn is_lease_gone(error: &Error) -> bool {
    error.refusal() == Some(Refusal::LeaseGone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_checked_before_they_are_used() {
        let time = Duration::from_secs(1);
        let new = |urls: &[String]| Etcd::new(Dial::Network, urls, Access::default(), time);
        assert!(matches!(new(&[]), Err(Error::NoEndpoint)));
        for bad in [
            "",
            "http://",
            "http://a b:1",
            "ftp://x:1",
            "localhost",
            "http://u@h:1",
        ] {
            let result = new(&[bad.to_owned()]);
            assert!(matches!(result, Err(Error::BadEndpoint { .. })), "{bad}");
        }
        for (given, shown) in [
            ("http://root:se@cret@h:2379", "`http://***@h:2379`"),
            ("root:secret@h:2379", "`***@h:2379`"),
        ] {
            let error = new(&[given.to_owned()]).err().unwrap();
            assert!(error.to_string().contains(shown), "{error}");
            assert!(!format!("{error:?}").contains("cret"), "{error:?}");
            assert!(error.hint().unwrap().contains("--registry-user"));
        }
        let etcd = new(&["localhost:2379".into(), "http://b:1/".into()]).unwrap();
        assert_eq!(etcd.urls(), ["http://localhost:2379", "http://b:1"]);
        assert_eq!(endpoint_url("h:1", true).unwrap(), "https://h:1");
    }
}
