//! Many calls of one method at once, without a task for each.
//!
//! Invariants: never more calls than were allowed are under way; an input is taken only when there
//! is room for its call, so a source without an end is as good as a short one; the calls live in
//! the stream of answers, so they go on while it is asked and end with it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ServiceClient;
use super::call::CallOptions;
use super::error::CallError;

/// How many calls are under way at once unless it is said.
pub const AT_MOST: usize = 64;

/// Calls that are about to be made. Made by [`ServiceClient::calls`].
#[must_use = "nothing is called before answers are asked for"]
pub struct ManyCalls<S> {
    client: ServiceClient,
    method: Arc<str>,
    inputs: S,
    at_most: usize,
    options: CallOptions,
}

impl<S> fmt::Debug for ManyCalls<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ManyCalls")
            .field("method", &self.method)
            .field("at_most", &self.at_most)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl ServiceClient {
    /// Calls a method once for each of `inputs`, many at a time.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use skynet::client::{CallError, ServiceClient};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Text { data: String }
    /// async fn raise(upcase: &ServiceClient, words: Vec<Text>) -> Result<Vec<Text>, CallError> {
    ///     let mut answers = upcase.calls("Upcase", words).at_most(16).in_order();
    ///     let mut raised = Vec::new();
    ///     while let Some(answer) = answers.next().await {
    ///         raised.push(answer?);
    ///     }
    ///     Ok(raised)
    /// }
    /// ```
    pub fn calls<I>(
        &self,
        method: &str,
        inputs: impl IntoIterator<Item = I, IntoIter: Send + 'static>,
    ) -> ManyCalls<impl Stream<Item = I> + Send + 'static> {
        self.calls_from(method, stream::iter(inputs))
    }

    /// The same for inputs that come by and by.
    pub fn calls_from<S: Stream>(&self, method: &str, inputs: S) -> ManyCalls<S> {
        ManyCalls {
            client: self.clone(),
            method: method.into(),
            inputs,
            at_most: AT_MOST,
            options: CallOptions::default(),
        }
    }
}

impl<S> ManyCalls<S> {
    /// How many calls are under way at once; [`AT_MOST`] unless it is said, one at least.
    pub fn at_most(mut self, calls: usize) -> Self {
        self.at_most = calls.max(1);
        self
    }

    /// How each call is made. Its deadline counts from where the call begins, not from where it
    /// waits for its turn.
    pub fn with(mut self, options: CallOptions) -> Self {
        self.options = options;
        self
    }
}

impl<S, I> ManyCalls<S>
where
    S: Stream<Item = I> + Send + 'static,
    I: Serialize + Send + Sync + 'static,
{
    /// Answers in the order of the inputs. One that takes long holds up those behind it, and as many
    /// answers are kept meanwhile as calls may be under way.
    pub fn in_order<O>(self) -> Answers<Result<O, CallError>>
    where
        O: DeserializeOwned + Send + 'static,
    {
        let at_most = self.at_most;
        let answers = self.begin().buffered(at_most);
        Answers::of(answers.map(|(_, answer)| answer))
    }

    /// Answers as they come, each with the number of its input, counted from 0.
    pub fn as_completed<O>(self) -> Answers<(usize, Result<O, CallError>)>
    where
        O: DeserializeOwned + Send + 'static,
    {
        let at_most = self.at_most;
        Answers::of(self.begin().buffer_unordered(at_most))
    }

    fn begin<O>(
        self,
    ) -> impl Stream<Item = impl Future<Output = (usize, Result<O, CallError>)> + Send> + Send + 'static
    where
        O: DeserializeOwned + Send + 'static,
    {
        let Self {
            client,
            method,
            inputs,
            options,
            ..
        } = self;
        inputs.enumerate().map(move |(number, input)| {
            let (client, method) = (client.clone(), Arc::clone(&method));
            let options = options.clone();
            async move { (number, client.call_with(&method, &input, options).await) }
        })
    }
}

/// The answers of many calls; also a [`Stream`].
///
/// The calls are under way only while an answer is asked for: what arrives meanwhile waits, but no
/// further call begins, and deadlines pass. Work that takes long for each answer belongs elsewhere.
/// Dropping it gives up the calls that are under way, and those that were sent may still run.
#[must_use = "nothing is called before answers are asked for"]
pub struct Answers<T> {
    answers: Pin<Box<dyn Stream<Item = T> + Send>>,
}

impl<T> fmt::Debug for Answers<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl<T> Answers<T> {
    fn of(answers: impl Stream<Item = T> + Send + 'static) -> Self {
        Self {
            answers: Box::pin(answers),
        }
    }

    /// The next answer; `None` after the last.
    ///
    /// # Cancel safety
    /// No answer is lost and no call given up when the future is dropped.
    pub async fn next(&mut self) -> Option<T> {
        self.answers.next().await
    }
}

impl<T> Stream for Answers<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<T>> {
        self.answers.as_mut().poll_next(task)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.answers.size_hint()
    }
}
