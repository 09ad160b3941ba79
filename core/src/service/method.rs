//! From a typed async function to a method on the wire, and the table of a service's methods.
//!
//! Invariants: a parameter is decoded, and its method called, where a panic is contained; every
//! call that reaches its method is counted once, also when it panics or is dropped. Knows nothing
//! of sockets.

use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::context::{Context, ServiceError, ServiceInfo, Who};
use super::figures::{Calls, End, Figures};
use super::trust::Network;
use crate::rpc::error::Code;
use crate::rpc::handler::{Answer, Begun, Dispatch, Incoming, Refusal, RunningCall};

/// How many calls of a method get a task at once after one of its polls took long.
const SUSPICION: u32 = 1000;

/// What a service declares of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MethodOptions {
    /// Whether it may run twice for one request. The service's handshakes say so, and clients then
    /// try a call again though its outcome is unknown.
    pub idempotent: bool,
    /// What becomes of a call whose caller waits no more.
    pub on_hang_up: OnHangUp,
}

/// What becomes of a call whose caller waits no more: its connection has ended, it dropped the call, or
/// the deadline that it told has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnHangUp {
    /// It runs to its end; [`Context::cancelled`] tells it, if it asks. Right for what must not stop
    /// half way.
    #[default]
    RunOn,
    /// It is dropped where it waits, at its next `await`. Right for what only reads. What it has
    /// spawned runs on.
    Cancel,
}

/// How a method ended, for [`crate::service::Builder::on_method_completed`].
#[derive(Debug, Clone, Copy)]
pub struct Completed<'a> {
    /// The call.
    pub context: &'a Context,
    /// From reading the request to the method's end.
    pub took: Duration,
    /// The method's own error.
    pub error: Option<&'a ServiceError>,
}

pub(super) type OnCalled = Box<dyn Fn(&Context) + Send + Sync>;
pub(super) type OnCompleted = Box<dyn Fn(Completed<'_>) + Send + Sync>;

/// What all methods of a service share.
pub(super) struct Common {
    pub(super) who: Arc<Who>,
    pub(super) figures: Arc<Figures>,
    /// Whose word about where a request came from is taken.
    pub(super) trusted: Vec<Network>,
    pub(super) on_called: Option<OnCalled>,
    pub(super) on_completed: Option<OnCompleted>,
}

/// A method as it was declared.
pub(super) struct Declared {
    pub(super) name: Arc<str>,
    pub(super) options: MethodOptions,
    pub(super) method: Box<dyn Method>,
}

/// One method in the table.
pub(super) struct Entry {
    name: Arc<str>,
    common: Arc<Common>,
    method: Box<dyn Method>,
    calls: Arc<Calls>,
    options: MethodOptions,
    /// Calls that get a task at once, because the method was seen to compute for long.
    suspicion: AtomicU32,
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn service(&self) -> &ServiceInfo {
        self.common.who.info()
    }

    /// Whether a client at this address is believed about where a request came from.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let mut trusted = self.common.trusted.iter();
        trusted.any(|network| network.contains(address))
    }

    /// Whether the next call had better have a task.
    fn computes_long(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.suspicion.load(Ordering::Relaxed) > 0
            && self
                .suspicion
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                .is_ok()
    }
}

/// A service's methods by name.
pub(super) struct Table {
    entries: HashMap<Box<[u8]>, Arc<Entry>>,
}

impl Table {
    pub(super) fn new(methods: Vec<Declared>, common: &Arc<Common>) -> Self {
        let entries = methods.into_iter().filter_map(|declared| {
            let Declared {
                name,
                options,
                method,
            } = declared;
            let key = name.as_bytes().into();
            let entry = Entry {
                calls: Arc::clone(common.figures.method(&name)?),
                name,
                common: Arc::clone(common),
                method,
                options,
                suspicion: AtomicU32::new(0),
            };
            Some((key, Arc::new(entry)))
        });
        Self {
            entries: entries.collect(),
        }
    }
}

impl Dispatch for Table {
    fn idempotent(&self) -> Vec<String> {
        let entries = self.entries.values();
        let declared = entries.filter(|entry| entry.options.idempotent);
        let mut names: Vec<String> = declared.map(|entry| entry.name().to_owned()).collect();
        names.sort_unstable();
        names
    }

    fn begin(&self, incoming: Incoming<'_>) -> Result<Begun, Refusal> {
        let Some(entry) = self.entries.get(incoming.method) else {
            let name = String::from_utf8_lossy(incoming.method);
            let text = format!("No such method \"{name}\"");
            return Err(Refusal::new(Code::NoMethod, text));
        };
        let document = incoming.document()?;
        let context = Context::new(entry, &incoming);
        let begun = catch_unwind(AssertUnwindSafe(|| {
            entry.method.begin(&context, document, incoming.received)
        }));
        let running = begun.unwrap_or_else(|_panic| {
            let request_id = context.request_id();
            tracing::error!(
                method = entry.name(),
                request_id,
                "a method panicked as it began"
            );
            let text = format!("method \"{}\" panicked", entry.name());
            Err(Refusal::new(Code::Internal, text))
        })?;
        Ok(if entry.computes_long() {
            Begun::Task(running)
        } else {
            Begun::Inline(running)
        })
    }
}

/// A method whose types are forgotten.
pub(super) trait Method: Send + Sync {
    fn begin(
        &self,
        context: &Context,
        input: &[u8],
        received: Instant,
    ) -> Result<Pin<Box<dyn RunningCall>>, Refusal>;
}

/// A method with its types.
pub(super) struct Typed<F, I> {
    function: F,
    input: PhantomData<fn(I)>,
}

impl<F, I> Typed<F, I> {
    pub(super) fn new(function: F) -> Self {
        Self {
            function,
            input: PhantomData,
        }
    }
}

impl<F, I, R, O, E> Method for Typed<F, I>
where
    F: Fn(Context, I) -> R + Send + Sync,
    I: DeserializeOwned,
    R: Future<Output = Result<O, E>> + Send + 'static,
    O: Serialize,
    E: Into<ServiceError>,
{
    fn begin(
        &self,
        context: &Context,
        input: &[u8],
        received: Instant,
    ) -> Result<Pin<Box<dyn RunningCall>>, Refusal> {
        let input = bson::deserialize_from_slice(input)
            .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
        let mut count = Count::begin(context, received);
        let span = tracing::info_span!(
            "call",
            method = context.method(),
            request_id = context.request_id()
        );
        let future = span.in_scope(|| (self.function)(context.clone(), input));
        count.end = End::Cancelled;
        let hang_up = (context.entry().options.on_hang_up == OnHangUp::Cancel)
            .then(|| hang_up(context.clone()));
        Ok(Box::pin(Running {
            future,
            hang_up,
            span,
            count,
        }))
    }
}

/// Counts a call while it runs, and once when it ends, however it does.
struct Count {
    context: Context,
    received: Instant,
    /// How it ends if it is dropped now: while its method is polled, that is a panic.
    end: End,
    /// When its method was done.
    done: Option<Instant>,
}

impl Count {
    fn begin(context: &Context, received: Instant) -> Self {
        let entry = context.entry();
        let common = &entry.common;
        common.figures.came(received);
        entry.calls.begun();
        // Before the callback, whose panic is to be counted, too.
        let count = Self {
            context: context.clone(),
            received,
            end: End::Panicked,
            done: None,
        };
        if let Some(called) = &common.on_called {
            called(context);
        }
        count
    }

    fn took(&self) -> Duration {
        self.received.elapsed()
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let now = self.done.unwrap_or_else(Instant::now);
        let took = now.saturating_duration_since(self.received);
        let calls = &self.context.entry().calls;
        calls.ended(self.end as usize, now, Some(took));
    }
}

/// How much longer than its deadline a call may run: its caller, whose clock began earlier and counts
/// finer, shall say itself that the deadline passed.
const GRACE: Duration = Duration::from_millis(50);

/// Waits until nobody waits for the call any more.
fn hang_up(context: Context) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        context.cancelled().await;
        tokio::time::sleep(GRACE).await;
    })
}

pin_project_lite::pin_project! {
    /// A call of a typed method.
    struct Running<R> {
        #[pin]
        future: R,
        // Ready when nobody waits any more, where that ends the call.
        hang_up: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
        span: tracing::Span,
        count: Count,
    }
}

impl<R, O, E> RunningCall for Running<R>
where
    R: Future<Output = Result<O, E>> + Send,
    O: Serialize,
    E: Into<ServiceError>,
{
    fn poll_answer(
        self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        answer: &mut Answer<'_>,
    ) -> Poll<()> {
        let this = self.project();
        let _entered = this.span.enter();
        let count = this.count;
        count.end = End::Panicked;
        let Poll::Ready(result) = this.future.poll(task) else {
            count.end = End::Cancelled;
            let hung_up = this.hang_up.as_mut();
            if hung_up.is_none_or(|hung_up| hung_up.as_mut().poll(task).is_pending()) {
                return Poll::Pending;
            }
            let method = count.context.method();
            tracing::debug!(method, "nobody waits for a call any more, it is given up");
            let text = format!("method \"{method}\" was given up: nobody waits for it any more");
            answer.refuse(&Refusal::new(Code::Internal, text));
            return Poll::Ready(());
        };
        let result = result.map_err(Into::into);
        if let Some(completed) = &count.context.entry().common.on_completed {
            completed(Completed {
                context: &count.context,
                took: count.took(),
                error: result.as_ref().err(),
            });
        }
        count.end = match result {
            Ok(output) => {
                answer.output(&output, "");
                End::Succeeded
            }
            Err(error) => {
                answer.service_error(error.message(), error.output());
                End::Failed
            }
        };
        count.done = Some(Instant::now());
        Poll::Ready(())
    }

    fn ended(&self) -> Option<Instant> {
        self.count.done
    }

    fn request_id(&self) -> &str {
        self.count.context.request_id()
    }

    fn method(&self) -> &str {
        self.count.context.method()
    }

    fn was_slow(&self) {
        let entry = self.count.context.entry();
        entry.suspicion.store(SUSPICION, Ordering::Relaxed);
    }
}
