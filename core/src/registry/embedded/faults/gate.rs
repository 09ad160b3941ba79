//! What happens to a call before and behind the service that carries it out.
//!
//! Invariants: a refused call has not reached the service; a slow one has been carried out when its
//! answer waits. It knows calls by their names only.

use std::{
    convert::Infallible,
    sync::atomic::Ordering,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

use super::{Switches, lock};
use crate::registry::embedded::refusal::Refusal;

/// A service behind the faults.
#[derive(Debug, Clone)]
pub(in crate::registry::embedded) struct Gate<S> {
    inner: S,
    switches: Switches,
}

impl<S> Gate<S> {
    pub(in crate::registry::embedded) fn new(inner: S, switches: Switches) -> Self {
        Self { inner, switches }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that was ready takes the call; its clone will be asked again.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let switches = self.switches.clone();
        Box::pin(async move {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default();
            let _counted = Counted::begin(&switches, name);
            if switches.takes_refusal() {
                return Ok(Status::from(Refusal::TooManyRequests).into_http());
            }
            if switches.own.leaderless.load(Ordering::Relaxed) {
                return Ok(Status::unavailable("etcdserver: no leader").into_http());
            }
            let response = inner.call(request).await;
            let wait = *lock(&switches.own.answer_after);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            response
        })
    }
}

impl Switches {
    /// Whether this call is one of those to refuse.
    fn takes_refusal(&self) -> bool {
        let refusals = &self.own.refusals;
        refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

/// A call that goes on.
struct Counted {
    switches: Switches,
    name: String,
}

impl Counted {
    fn begin(switches: &Switches, name: &str) -> Self {
        let n_now = {
            let mut at_once = lock(&switches.own.at_once);
            let n_now = at_once.entry(name.to_owned()).or_default();
            *n_now += 1;
            *n_now
        };
        let mut tally = lock(&switches.own.tally);
        *tally.calls.entry(name.to_owned()).or_default() += 1;
        let most = tally.most_at_once.entry(name.to_owned()).or_default();
        *most = n_now.max(*most);
        drop(tally);
        Self {
            switches: switches.clone(),
            name: name.to_owned(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(n_now) = lock(&self.switches.own.at_once).get_mut(&self.name) {
            *n_now = n_now.saturating_sub(1);
        }
    }
}
