//! The library for programs without tokio: clients whose calls block, and services whose methods do.
//!
//! Everything runs on a runtime of its own, with one thread of its own; the caller's thread only
//! waits. Invariants: nothing here panics for being used where it must not block, it is an error
//! ([`Error::InsideAsync`]); the runtime ends with the last handle, and takes no thread with it that
//! somebody waits for.
//!
//! ```
//! use skynet::blocking::{Client, Error};
//! use skynet::demo::test_service::Text;
//! use skynet::registry::RegistryConfig;
//!
//! fn upcase(config: &RegistryConfig, word: &str) -> Result<String, Error> {
//!     let client = Client::connect(config)?;
//!     let service = client.service("service=TestService".parse().expect("this is a query"));
//!     let text: Text = service.call("Upcase", &Text { data: word.to_owned() })?;
//!     Ok(text.data)
//! }
//! ```

mod service;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use crate::client::{self, CallError, CallOptions, Place};
use crate::hint::{Hint, Retry};
use crate::metrics::{ClientMetrics, ServiceClientMetrics};
use crate::query::Query;
use crate::registry::{self, Registry, RegistryConfig};
use crate::service::StartError;

pub use service::Service;

/// Why something that blocks failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was used on a thread of an async runtime, which must not block.
    #[error("a blocking call on a thread of an async runtime, which it would hold up")]
    InsideAsync,
    /// The system gives no thread for the runtime.
    #[error("cannot start a runtime")]
    Runtime(#[source] std::io::Error),
    /// The registry's settings cannot be used.
    #[error("cannot use the registry")]
    Registry(#[from] registry::Error),
    /// The service does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Error {
    /// Whether the same may be tried again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Call(error) => error.retry(),
            Self::Runtime(_) => Retry::Safe,
            Self::InsideAsync | Self::Registry(_) | Self::Start(_) => Retry::Never,
        }
    }
}

impl Hint for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::InsideAsync => Some(
                "await `skynet::client` and `skynet::service` instead, or use a thread of its own"
                    .to_owned(),
            ),
            Self::Runtime(_) => Some("are there too many threads?".to_owned()),
            Self::Registry(error) => error.hint(),
            Self::Start(error) => error.hint(),
            Self::Call(error) => error.hint(),
        }
    }
}

/// The runtime behind the handles; ends with the last.
struct Runtime {
    /// `None` only while it is dropped.
    tokio: Option<tokio::runtime::Runtime>,
    handle: Handle,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Waiting for its threads could block whoever drops the last handle.
        if let Some(tokio) = self.tokio.take() {
            tokio.shutdown_background();
        }
    }
}

impl Runtime {
    fn start() -> Result<Arc<Self>, Error> {
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("skynet")
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        Ok(Arc::new(Self {
            handle: tokio.handle().clone(),
            tokio: Some(tokio),
        }))
    }

    /// Waits for `future` on this thread, if it may wait.
    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        may_block()?;
        Ok(self.handle.block_on(future))
    }
}

thread_local! {
    /// Whether this thread is one for work that blocks, though it belongs to a runtime.
    static ALLOWED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a thread where it may block.
pub(crate) fn allowed<T>(work: impl FnOnce() -> T) -> T {
    /// Such threads are used again, also after a panic.
    struct Until(bool);

    impl Drop for Until {
        fn drop(&mut self) {
            ALLOWED.set(self.0);
        }
    }

    let _until = Until(ALLOWED.replace(true));
    work()
}

fn may_block() -> Result<(), Error> {
    if ALLOWED.get() {
        return Ok(());
    }
    match Handle::try_current() {
        Ok(_inside) => Err(Error::InsideAsync),
        Err(_outside) => Ok(()),
    }
}

/// Access to every service of a cluster; see [`client::Client`]. Clones are cheap and share
/// everything.
#[derive(Clone)]
pub struct Client {
    client: client::Client,
    runtime: Arc<Runtime>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("blocking::Client")
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that follows the cluster, with the place of [`Place::from_env`]. It does not wait for
    /// the registry: calls do, up to their deadlines.
    ///
    /// # Errors
    /// [`Error::InsideAsync`], [`Error::Runtime`], and [`Error::Registry`] for settings that cannot
    /// be used.
    pub fn connect(config: &RegistryConfig) -> Result<Self, Error> {
        Self::connect_from(config, Place::from_env())
    }

    /// The same from a given place.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_from(config: &RegistryConfig, place: Place) -> Result<Self, Error> {
        may_block()?;
        let runtime = Runtime::start()?;
        let client = runtime.wait(async {
            let registry = Registry::new(config)?;
            Ok::<_, registry::Error>(client::Client::connect_from(&registry, place))
        })??;
        Ok(Self { client, runtime })
    }

    /// The services that a query chooses.
    pub fn service(&self, query: Query) -> ServiceClient {
        ServiceClient {
            client: self.client.service(query),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// What it measures.
    pub fn metrics(&self) -> ClientMetrics {
        self.client.metrics()
    }
}

/// Calls the instances that a query chooses; see [`client::ServiceClient`]. Clones are cheap and
/// share everything; threads may call at the same time.
#[derive(Clone)]
pub struct ServiceClient {
    client: client::ServiceClient,
    runtime: Arc<Runtime>,
}

impl fmt::Debug for ServiceClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("blocking::ServiceClient")
            .field("query", self.client.query())
            .finish_non_exhaustive()
    }
}

impl ServiceClient {
    /// The same client, choosing among instances in another way.
    #[must_use]
    pub fn with_policy(mut self, policy: client::Policy) -> Self {
        self.client = self.client.with_policy(policy);
        self
    }

    /// Calls a method of one of the instances and waits for its result, 10 s at most.
    ///
    /// # Errors
    /// [`Error::Call`] says what is known of the outcome; [`Error::InsideAsync`] where it must not
    /// wait, and then nothing was sent.
    pub fn call<I, O>(&self, method: &str, input: &I) -> Result<O, Error>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        self.call_with(method, input, CallOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`ServiceClient::call`].
    pub fn call_with<I, O>(&self, method: &str, input: &I, options: CallOptions) -> Result<O, Error>
    where
        I: Serialize + ?Sized,
        O: DeserializeOwned,
    {
        let call = self.client.call_with(method, input, options);
        Ok(self.runtime.wait(call)??)
    }

    /// Begins a call that runs while other things are done; [`Call::wait`] waits for its result.
    pub fn start<I, O>(&self, method: &str, input: I) -> Call<O>
    where
        I: Serialize + Send + Sync + 'static,
        O: DeserializeOwned + Send + 'static,
    {
        let _in_our_runtime = self.runtime.handle.enter();
        Call {
            call: self.client.start(method, input),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// Calls a method once for each of `inputs`, `at_most` at a time, and gives the answers in
    /// their order. The calls are under way while an answer is waited for.
    pub fn calls<I, O>(
        &self,
        method: &str,
        inputs: impl IntoIterator<Item = I, IntoIter: Send + 'static>,
        at_most: usize,
    ) -> Answers<O>
    where
        I: Serialize + Send + Sync + 'static,
        O: DeserializeOwned + Send + 'static,
    {
        Answers {
            answers: Some(
                self.client
                    .calls(method, inputs)
                    .at_most(at_most)
                    .in_order(),
            ),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// What it measures, together with all that have the same query and the same client.
    pub fn metrics(&self) -> ServiceClientMetrics {
        self.client.metrics()
    }
}

/// A call that runs; dropping it gives it up.
#[must_use = "dropping a call gives it up"]
pub struct Call<O> {
    call: client::Call<O>,
    runtime: Arc<Runtime>,
}

impl<O> fmt::Debug for Call<O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("blocking::Call")
            .finish_non_exhaustive()
    }
}

impl<O> Call<O> {
    /// Waits for its result.
    ///
    /// # Errors
    /// As [`ServiceClient::call`]; where it must not wait, the call is given up.
    pub fn wait(self) -> Result<O, Error> {
        Ok(self.runtime.wait(self.call)??)
    }
}

/// The answers of many calls, in the order of their inputs. Dropping it gives up those that are under
/// way.
#[must_use = "nothing is called before answers are asked for"]
pub struct Answers<O> {
    /// `None` after the last.
    answers: Option<client::Answers<Result<O, CallError>>>,
    runtime: Arc<Runtime>,
}

impl<O> fmt::Debug for Answers<O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("blocking::Answers")
            .finish_non_exhaustive()
    }
}

impl<O> Iterator for Answers<O> {
    type Item = Result<O, Error>;

    /// Waits for the next answer. Where it must not wait, that error is the last item.
    fn next(&mut self) -> Option<Self::Item> {
        let answers = self.answers.as_mut()?;
        match self.runtime.wait(answers.next()) {
            Ok(Some(answer)) => Some(answer.map_err(Error::from)),
            Ok(None) => {
                self.answers = None;
                None
            }
            Err(error) => {
                self.answers = None;
                Some(Err(error))
            }
        }
    }
}
