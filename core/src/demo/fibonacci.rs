//! `Fibonacci`: a service that calls itself through the cluster.

use serde::{Deserialize, Serialize};

use crate::client::{CallError, CallOptions, Client, ServiceClient};
use crate::query::{Field, Query};
use crate::registry::Registry;
use crate::service::{Builder, Context, Service, ServiceError};

/// The service's name.
pub const NAME: &str = "Fibonacci";

/// The highest index: the calls grow as fast as the numbers do.
pub const MOST_INDEX: i64 = 20;

/// The parameter of `Index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Which number of the sequence, counted from 0.
    pub index: i64,
}

/// The result of `Index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    /// Which number of the sequence.
    pub index: i64,
    /// The number.
    pub value: i64,
}

/// `Index` {index} → {index, value}: the two numbers before it are asked of the cluster.
///
/// Call it on a tokio runtime.
pub fn builder(registry: &Registry) -> Builder {
    let client = Client::connect(registry);
    let fibonacci = client.service(Query::exact(Field::Service, &[NAME]));
    Service::builder(NAME).method("Index", move |context: Context, input: Index| {
        let fibonacci = fibonacci.clone();
        async move {
            let index = input.index;
            match index {
                0 | 1 => Ok(Number {
                    index,
                    value: index,
                }),
                2..=MOST_INDEX => {
                    let (last, one_before) = tokio::try_join!(
                        ask(&fibonacci, &context, index - 1),
                        ask(&fibonacci, &context, index - 2),
                    )
                    .map_err(ServiceError::new)?;
                    Ok(Number {
                        index,
                        value: last.value + one_before.value,
                    })
                }
                _ => {
                    let message =
                        format!("`index` is {index}, and must be between 0 and {MOST_INDEX}");
                    Err(ServiceError::new(message))
                }
            }
        }
    })
}

/// The request's id, origin, deadline and trace pass on, so that the whole composition ends in time.
async fn ask(
    fibonacci: &ServiceClient,
    context: &Context,
    index: i64,
) -> Result<Number, CallError> {
    let options = CallOptions {
        idempotent: true,
        ..CallOptions::on_behalf_of(context)
    };
    fibonacci
        .call_with("Index", &Index { index }, options)
        .await
}
