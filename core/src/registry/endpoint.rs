//! One endpoint of the registry: its connection, and our token on it.
//!
//! Invariants: however many ask, one of them connects or authenticates and the others wait for
//! what comes of it; a password that was refused is not tried again for a second, because checking
//! one costs the registry a tenth of a second of work. A connection has a number of its own, so that
//! whoever fails on an old one does not throw away a new one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::Client;
use tokio::time::Instant;

use super::access::{Access, AccessError};
use super::dial::Dial;
use super::refusal::{Refusal, Verdict};
use super::said::Said;

/// How long a refused password is not tried again.
const DENIED_FOR: Duration = Duration::from_secs(1);

/// Connections are told apart by these.
static NUMBERS: AtomicUsize = AtomicUsize::new(1);

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The registry said so, or the way to it.
    Said(Said),
    /// What lets us in cannot be read.
    Access(AccessError),
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        Self::Said(Said::from(error))
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        Self::Access(error)
    }
}

/// A connection to one endpoint.
#[derive(Clone)]
pub(super) struct Connection {
    /// Boxed, because futures hold it and it is large.
    pub(super) client: Box<Client>,
    pub(super) number: usize,
    /// Counts the tokens that we had on it.
    token: usize,
}

/// An endpoint.
pub(super) struct Endpoint {
    pub(super) url: String,
    /// Never held across an await.
    slot: Mutex<Slot>,
    /// Held by whoever connects or authenticates.
    busy: tokio::sync::Mutex<()>,
    /// It has answered at some time.
    answered: AtomicBool,
}

#[derive(Default)]
struct Slot {
    /// `None` until it is first used, and again after it failed.
    connection: Option<Connection>,
    /// The last refusal of our password.
    denied: Option<(Instant, Said)>,
}

impl Endpoint {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            slot: Mutex::default(),
            busy: tokio::sync::Mutex::default(),
            answered: AtomicBool::new(false),
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that stands, or a new one.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the next caller to connect.
    pub(super) async fn connection(
        &self,
        dial: &Dial,
        access: &Access,
    ) -> Result<Connection, Failure> {
        let standing = self.slot().connection.clone();
        match standing {
            Some(standing) => Ok(standing),
            // Boxed, because it is rare and large.
            None => Box::pin(self.connect(dial, access)).await,
        }
    }

    async fn connect(&self, dial: &Dial, access: &Access) -> Result<Connection, Failure> {
        let _busy = self.busy.lock().await;
        let standing = self.slot().connection.clone();
        if let Some(standing) = standing {
            return Ok(standing);
        }
        let tls = if self.url.starts_with("https://") {
            Some(access.tls().await?)
        } else {
            None
        };
        let mut client = dial.client(&self.url, tls).await?;
        match self.authenticate(&mut client, access).await {
            // Renewals need no token, so the leases live on while somebody puts the password right;
            // whatever needs one asks for it again, and fails with these words.
            Err(Failure::Said(said)) if said.verdict == Verdict::Final => {}
            other => other?,
        }
        let connection = Connection {
            client: Box::new(client),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            token: 0,
        };
        self.slot().connection = Some(connection.clone());
        Ok(connection)
    }

    /// Takes another token for a connection whose token was refused, with the password as it now
    /// is. The connection and what runs on it stay, also if that fails.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the next caller to authenticate.
    pub(super) async fn renew_token(
        &self,
        refused: &Connection,
        access: &Access,
    ) -> Result<Connection, Failure> {
        let _busy = self.busy.lock().await;
        let standing = self.slot().connection.clone();
        match standing {
            // Somebody was faster.
            Some(standing)
                if standing.number != refused.number || standing.token != refused.token =>
            {
                return Ok(standing);
            }
            _ => {}
        }
        let mut renewed = refused.clone();
        self.authenticate(&mut renewed.client, access).await?;
        renewed.token += 1;
        let mut slot = self.slot();
        if let Some(standing) = &mut slot.connection
            && standing.number == renewed.number
        {
            standing.token = renewed.token;
        }
        Ok(renewed)
    }

    async fn authenticate(&self, client: &mut Client, access: &Access) -> Result<(), Failure> {
        let denied = self.slot().denied.clone();
        if let Some((when, said)) = denied
            && when.elapsed() < DENIED_FOR
        {
            return Err(Failure::Said(said));
        }
        let Some(user) = access.user().await? else {
            return Ok(());
        };
        let said = match client.update_user(Some(user)).await {
            Ok(()) => {
                self.slot().denied = None;
                return Ok(());
            }
            Err(error) => self.hears(Said::from(error)),
        };
        match said.refusal {
            // Users may be given to everybody before they are checked.
            Some(Refusal::NoUsersChecked) => return Ok(()),
            _ if said.verdict == Verdict::Final => {
                self.slot().denied = Some((Instant::now(), said.clone()));
            }
            _ => {}
        }
        Err(Failure::Said(said))
    }

    /// It answered.
    pub(super) fn worked(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// What it says, in the light of what is known of it: one that has never answered and breaks off
    /// wants TLS, or does not like the certificate that we showed it (its word on that may come too
    /// late to be read); one that has answered before has another reason.
    pub(super) fn hears(&self, mut said: Said) -> Said {
        if said.refusal == Some(Refusal::OnlyTls) {
            let answered = self.answered.load(Ordering::Relaxed);
            said.refusal = (!answered).then(|| {
                if self.url.starts_with("http://") {
                    Refusal::OnlyTls
                } else {
                    Refusal::OurCertificate
                }
            });
        }
        said
    }

    /// Throws a connection away; `false` if it is not the one that stands.
    pub(super) fn disconnect(&self, number: usize) -> bool {
        let mut slot = self.slot();
        let stands = slot.connection.as_ref().map(|standing| standing.number) == Some(number);
        if stands {
            slot.connection = None;
        }
        stands
    }
}
