//! The daemon's methods, in both dialects of the original.

use skynet::daemon_api::{
    ChildDone, ChildList, ChildRequest, ChildUuid, DeployRequest, Empty, LogLevelReply,
    LogLevelRequest, RestartAllReply, StartAllReply, StatsRequest, StopAllReply,
};
use skynet::instance::{InstanceId, State};
use skynet::stats::DaemonStats;

use crate::host::{Host, until};

async fn host_with_daemon() -> Host {
    let mut host = Host::new().await;
    let command = host.command();
    host.start(command);
    host
}

fn child(id: InstanceId) -> ChildRequest {
    ChildRequest {
        uuid: id.to_string(),
        ..ChildRequest::default()
    }
}

#[tokio::test]
async fn error_texts_are_those_of_the_original() {
    let host = host_with_daemon().await;
    let (list, error): (ChildList, _) = host.ask("ListSubServices", &Empty {}).await;
    assert_eq!(list.services.len(), 0);
    assert_eq!(error.as_deref(), Some("No services deployed"));
    let (_, error): (RestartAllReply, _) = host.ask("RestartAllSubServices", &Empty {}).await;
    assert_eq!(error.as_deref(), Some("No services deployed"));
    let stopped: StopAllReply = host.get("StopAllSubServices", &Empty {}).await;
    assert_eq!(stopped, StopAllReply::default());

    let nobody = ChildRequest {
        uuid: "x".to_owned(),
        ..ChildRequest::default()
    };
    for method in [
        "StopSubService",
        "StartSubService",
        "RestartSubService",
        "RegisterSubService",
        "UnregisterSubService",
        "SubServiceLogLevel",
    ] {
        let (done, error): (ChildUuid, _) = host.ask(method, &nobody).await;
        assert_eq!(done.uuid, "", "{method}");
        assert_eq!(
            error.as_deref(),
            Some("No such service UUID \"x\""),
            "{method}"
        );
    }

    for (servicepath, args, text) in [
        ("/etc/passwd", "", "This package is not a binary"),
        ("sleep", "\"1000", "Unterminated double-quoted string"),
        (
            "no/such/thing",
            "",
            "cannot find the program `no/such/thing`",
        ),
    ] {
        let request = DeployRequest {
            servicepath: servicepath.to_owned(),
            args: args.to_owned(),
        };
        let (reply, error): (ChildUuid, _) = host.ask("Deploy", &request).await;
        assert_eq!(error.as_deref(), Some(text));
        assert!(
            reply.uuid.parse::<InstanceId>().is_ok(),
            "filled in each case"
        );
    }
}

#[tokio::test]
async fn a_child_is_deployed_stopped_started_and_restarted_by_requests() {
    let host = host_with_daemon().await;
    let id = host.deploy().await;
    let first = host.until_ready(1).await.remove(0);
    assert_eq!(first.id(), id);
    let list: ChildList = host.get("ListSubServices", &Empty {}).await;
    let info = &list.services[&id.to_string()];
    assert_eq!(info.servicepath, "env");
    assert!(info.running && info.args.ends_with("--exact child::serves --nocapture"));

    let done: ChildDone = host.get("StopSubService", &child(id)).await;
    assert!(done.ok);
    let done: ChildDone = host.get("StopSubService", &child(id)).await;
    assert!(!done.ok, "it was asked to stop before");
    let stopped = until("it is told as stopped", async || {
        host.shown(id).filter(|shown| shown.state == State::Stopped)
    })
    .await;
    assert_eq!(
        stopped.identity, first.identity,
        "under the names that it had"
    );

    let done: ChildDone = host.get("StartSubService", &child(id)).await;
    assert!(done.ok);
    let second = host.until_ready(1).await.remove(0);
    assert_ne!(second.pid(), first.pid());

    let reply: ChildUuid = host.get("RestartSubService", &child(id)).await;
    assert_eq!(reply.uuid, id.to_string());
    until("another process serves", async || {
        let ready = host.ready();
        ready
            .iter()
            .any(|now| now.pid() != second.pid())
            .then_some(())
    })
    .await;

    let stopped: StopAllReply = host.get("StopAllSubServices", &Empty {}).await;
    assert_eq!((stopped.count, stopped.stops.len()), (1, 1));
    until("it is told as stopped again", async || {
        host.shown(id).filter(|shown| shown.state == State::Stopped)
    })
    .await;
    let started: StartAllReply = host.get("StartAllSubServices", &Empty {}).await;
    assert_eq!(started.count, 1);
    host.until_ready(1).await;
    let restarted: RestartAllReply = host.get("RestartAllSubServices", &Empty {}).await;
    assert_eq!(restarted.count, 1);
}

#[tokio::test]
async fn the_later_dialect_starts_by_name_and_wishes_registration() {
    let host = host_with_daemon().await;
    let (binaryname, args) = crate::child::deployable();
    let request = ChildRequest {
        uuid: String::new(),
        binaryname,
        args,
        registered: Some(false),
    };
    let done: ChildDone = host.get("StartSubService", &request).await;
    assert!(done.ok);
    let id: InstanceId = done.uuid.parse().unwrap();
    let is = async |registered: bool| {
        until("its wish is followed", async || {
            host.shown(id)
                .filter(|shown| shown.state == State::Ready && shown.registered == registered)
        })
        .await;
    };
    is(false).await;
    for (method, registered) in [
        ("RegisterSubService", true),
        ("UnregisterSubService", false),
    ] {
        until("the daemon knows its entry", async || {
            let done: ChildDone = host.get(method, &child(id)).await;
            done.ok.then_some(())
        })
        .await;
        is(registered).await;
    }

    let level = |level: &str| LogLevelRequest {
        level: level.to_owned(),
        ..LogLevelRequest::default()
    };
    let reply: LogLevelReply = host.get("LogLevel", &level("DEBUG")).await;
    assert!(reply.ok);
    let (reply, error): (LogLevelReply, _) = host.ask("LogLevel", &level("loud")).await;
    assert!(!reply.ok);
    assert!(error.unwrap().starts_with("`loud` is no log level"));
}

#[tokio::test]
async fn figures_of_host_and_children_are_gathered() {
    let host = host_with_daemon().await;
    let ids = [host.deploy().await, host.deploy().await];
    host.until_ready(2).await;
    let own = until("the daemon is registered", async || host.daemon_id()).await;
    let stats: DaemonStats = until("the daemon and both children answer", async || {
        let stats: DaemonStats = host.get("Stats", &StatsRequest::default()).await;
        (stats.instances.len() == 3).then_some(stats)
    })
    .await;
    assert!(stats.host.mem_bytes > 0);
    for (id, stats) in stats.by_id() {
        assert!(id == own || ids.contains(&id));
        assert!(stats.rss_bytes.unwrap() > 0);
        assert!(!stats.started.is_empty());
    }
    for (asked, found) in [
        (vec![ids[0].to_string()], 1),
        (vec![own.to_string()], 1),
        (vec![own.to_string(), ids[1].to_string()], 2),
        (vec!["x".to_owned()], 0),
    ] {
        let request = StatsRequest { uuids: asked };
        let stats: DaemonStats = host.get("Stats", &request).await;
        assert_eq!(stats.instances.len(), found);
    }
    until("the share of the processor is known", async || {
        let stats: DaemonStats = host.get("Stats", &StatsRequest::default()).await;
        let known = stats
            .instances
            .values()
            .all(|stats| stats.cpu_pct.is_some());
        known.then_some(())
    })
    .await;
}
