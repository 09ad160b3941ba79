//! `sky call`: one call of a method, with JSON in and out.
//!
//! Invariants: an integer stays an integer; the result alone goes to standard output, one line of
//! JSON; with an address nothing but that address is asked.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document};
use skynet::client::{CallOptions, Client};
use skynet::query::{self, Query};
use skynet::registry::Registry;
use skynet::rpc::{self, ConnectError, ConnectOptions, Connection, Expected, Request, RequestInfo};
use tokio::time::Instant;

use crate::cli::args::CallArgs;
use crate::output::Output;
use crate::report::{Exit, Failure};

/// Calls, and writes the result.
///
/// # Errors
/// When the parameter is no JSON object, nobody can be reached, or the call fails.
///
/// # Cancel safety
/// A call that was sent may still run.
pub async fn run(
    registry: impl FnOnce() -> Result<Registry, Failure>,
    args: &CallArgs,
    output: Output,
) -> Result<(), Failure> {
    let text = if args.input == "-" {
        let mut text = String::new();
        super::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(Exit::Failed, error))?;
        text
    } else {
        args.input.clone()
    };
    let input = document(&text)?;
    let result = if let Some(address) = args.address {
        by_address(address, args, &input).await?
    } else {
        let CallArgs {
            service,
            method,
            deadline,
            ..
        } = args;
        let target = Target {
            service,
            method,
            deadline: *deadline,
        };
        by_registry(&registry()?, target, &input).await?
    };
    output.write(&(json(result) + "\n"))
}

/// The document that a JSON object means.
///
/// # Errors
/// When it is no JSON object.
pub fn document(text: &str) -> Result<Document, Failure> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .hint("the parameter is a JSON object, as '{\"data\": \"x\"}'")
    })?;
    match Bson::try_from(value) {
        Ok(Bson::Document(document)) => Ok(document),
        Ok(_) => Err(Failure::usage("the parameter is JSON, but no object")
            .hint("the parameter is a JSON object, as '{\"data\": \"x\"}'")),
        Err(error) => Err(Failure::new(Exit::Usage, error)),
    }
}

/// A document as one line of JSON.
pub fn json(document: Document) -> String {
    Bson::Document(document).into_relaxed_extjson().to_string()
}

/// A service's name, and its version if one is given behind `:`.
fn name_and_version(service: &str) -> (&str, Option<&str>) {
    service
        .split_once(':')
        .map_or((service, None), |(name, version)| (name, Some(version)))
}

async fn by_address(
    address: SocketAddr,
    args: &CallArgs,
    input: &Document,
) -> Result<Document, Failure> {
    let deadline = Instant::now() + args.deadline;
    let (service, _) = name_and_version(&args.service);
    let options = ConnectOptions {
        expect: Some(Expected {
            service: Some(Arc::from(service)),
            id: None,
        }),
        timeout: args.deadline,
        ..ConnectOptions::default()
    };
    let opened = Connection::open(address, &options).await;
    let connection = opened.map_err(|error| match error {
        ConnectError::Mismatch { .. } => {
            Failure::from(error).hint("name the service that has this address")
        }
        error => error.into(),
    })?;
    let input = rpc::typed::encode(input)?;
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = Request {
        service,
        method: &args.method,
        info: RequestInfo {
            request_id: &request_id,
            deadline: Some(deadline),
            ..RequestInfo::default()
        },
        input: &input,
    };
    let reply = connection.call(request).await?;
    match reply.service_error {
        Some(message) => Err(Failure::new(
            Exit::Failed,
            format!(
                "`{}` of `{service}` at {address} failed: {message}",
                args.method
            ),
        )),
        None => Ok(rpc::typed::decode(&reply.output)?),
    }
}

/// What is called through the registry.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The service, or `NAME:VERSION`.
    pub service: &'a str,
    /// Its method.
    pub method: &'a str,
    /// How long the call may take.
    pub deadline: Duration,
}

/// Calls one of the registered instances of a service.
///
/// # Errors
/// When the registry or no instance can be reached, or the call fails.
///
/// # Cancel safety
/// A call that was sent may still run.
pub async fn by_registry(
    registry: &Registry,
    target: Target<'_>,
    input: &Document,
) -> Result<Document, Failure> {
    let selectors = query::Selectors {
        services: vec![target.service.to_owned()],
        registered: Some(true),
        ..query::Selectors::default()
    };
    let query: Query = selectors.query()?;
    let client = Client::connect(registry);
    let options = CallOptions {
        deadline: target.deadline,
        ..CallOptions::default()
    };
    let called = client
        .service(query)
        .call_with(target.method, input, options)
        .await;
    match called {
        Ok(result) => Ok(result),
        // Who cannot be asked for instances has none to name.
        Err(_) if !client.view().link().borrow().is_live() => {
            registry.snapshot().await?;
            Err(Failure::new(
                Exit::Unreachable,
                "the registry was not reached in time",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(json(document(text).unwrap()), expected);
    }

    #[test]
    fn numbers_stay_what_they_are() {
        check(
            r#"{"small": 7, "large": 9007199254740993, "part": 0.5, "whole": 2.0}"#,
            r#"{"small":7,"large":9007199254740993,"part":0.5,"whole":2.0}"#,
        );
        let typed = document(r#"{"a": 7, "b": 5000000000, "c": 1.0}"#).unwrap();
        assert_eq!(typed.get("a"), Some(&Bson::Int32(7)));
        assert_eq!(typed.get("b"), Some(&Bson::Int64(5_000_000_000)));
        assert_eq!(typed.get("c"), Some(&Bson::Double(1.0)));
    }

    #[test]
    fn extended_json_names_other_kinds() {
        let typed = document(r#"{"a": {"$numberLong": "7"}, "b": [null, true, {"c": "d"}]}"#);
        let typed = typed.unwrap();
        assert_eq!(typed.get("a"), Some(&Bson::Int64(7)));
        assert_eq!(json(typed), r#"{"a":7,"b":[null,true,{"c":"d"}]}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "7", "{", "{\"a\":}", &"[".repeat(10_000)] {
            let failure = document(text).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage, "{text}");
        }
    }
}
