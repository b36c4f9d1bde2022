//! What the doctor sees of the broker: that it answers, the topology, the marker of its data.

use super::{Check, Doctor, FIX, State};
use crate::{
    marker,
    queries::{audit, epoch},
};
use diesel::Connection as _;
use lapin::{Connection, Error as AmqpError};
use serde_json::json;
use shared::{
    broker::{self, BrokerError, is_different, is_not_found},
    db::DbError,
    task::{Lane, Queue},
    topology::{self, Declare, Topology},
};
use std::time::Duration;
use tokio::runtime::Runtime;

const BROKER: &str = "broker";
const TOPOLOGY: &str = "topology";
const EPOCH: &str = "broker_epoch";
/// A broker that stopped answering is noticed by then.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error("the broker did not answer")]
    Broker(#[from] BrokerError),
    #[error("the broker did not answer")]
    Amqp(#[from] AmqpError),
    #[error("the database did not answer")]
    Database(#[from] DbError),
}

/// The broker and the runtime that its connection lives on.
pub(super) struct Link {
    runtime: Runtime,
    pub(super) connection: Connection,
}

impl Link {
    pub(super) fn wait<T, E: Into<LookError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, LookError> {
        self.runtime.block_on(async {
            tokio::time::timeout(LONGEST, work)
                .await
                .map_err(|_| BrokerError::Timeout)?
                .map_err(Into::into)
        })
    }
}

/// Some exchanges and queues have one name.
fn exchange_label(name: &str) -> String {
    format!("exchange {name}")
}

fn queue_label(name: &str) -> String {
    format!("queue {name}")
}

/// How the topology is in the broker, by labels.
#[derive(Debug, Default)]
struct Difference {
    missing: Vec<String>,
    different: Vec<String>,
}

impl Doctor<'_> {
    pub(super) fn broker(&mut self, has_database: bool) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return self.checks.push(Check::unchecked(BROKER, &error)),
        };
        let connected = runtime.block_on(broker::open(&self.config.broker, "warren doctor"));
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                let remedy = "is broker.url right, and the broker running? Topology and messages are not looked at";
                return self
                    .checks
                    .push(Check::unchecked(BROKER, &error).remedy(remedy));
            }
        };
        let link = Link {
            runtime,
            connection,
        };
        self.checks.push(Check::new(BROKER, State::Ok, "answers"));
        let lost = self.push_or_unchecked(TOPOLOGY, |doctor| doctor.topology(&link, has_database));
        if has_database {
            self.push_or_unchecked(EPOCH, |doctor| doctor.epoch(&link));
            if let Err(error) = self.messages(&link, &lost.unwrap_or_default()) {
                self.checks
                    .push(Check::unchecked(super::messages::WAITING, &error));
            }
        }
        link.runtime.block_on(broker::close(&link.connection));
    }

    fn push_or_unchecked<T>(
        &mut self,
        name: &'static str,
        look: impl FnOnce(&mut Self) -> Result<(Check, T), LookError>,
    ) -> Option<T> {
        match look(self) {
            Ok((check, value)) => {
                self.checks.push(check);
                Some(value)
            }
            Err(error) => {
                self.checks.push(Check::unchecked(name, &error));
                None
            }
        }
    }

    /// Also returns the lanes whose queues were missing and have been made: what they held is gone.
    fn topology(
        &mut self,
        link: &Link,
        has_database: bool,
    ) -> Result<(Check, Vec<String>), LookError> {
        let topology = Topology::warren();
        let found = link.wait(differences(&link.connection, &topology))?;
        let Difference { missing, different } = found;
        if missing.is_empty() && different.is_empty() {
            let (exchanges, queues) = (topology.exchanges.len(), topology.queues.len());
            let says = format!(
                "all {exchanges} exchanges and {queues} queues are as they should be; bindings can't be seen"
            );
            return Ok((Check::new(TOPOLOGY, State::Ok, says), Vec::new()));
        }
        let mut says = Vec::new();
        if !missing.is_empty() {
            says.push(format!("{} are missing", missing.len()));
        }
        if !different.is_empty() {
            let names = different.join(", ");
            says.push(format!(
                "{names}: declared with other arguments, so no service can connect"
            ));
        }
        let count = missing.len() + different.len();
        let mut check = Check::new(TOPOLOGY, State::Finding, says.join("; "))
            .count(i64::try_from(count).unwrap_or(i64::MAX))
            .samples([missing.clone(), different.clone()].concat());
        if different.is_empty() {
            check = check.remedy("start any service: it declares them");
        } else {
            check = check.remedy(
                "delete those in the management UI (the tasks are in PostgreSQL), then run `api-service doctor --fix`",
            );
        }
        if missing.is_empty() {
            return Ok((check, Vec::new()));
        }
        check = check.fixable();
        if !self.options.fix {
            return Ok((check, Vec::new()));
        }
        link.wait(make(&link.connection, &topology, &different))?;
        if has_database {
            let details = json!({"check": TOPOLOGY, "declared": missing});
            self.session
                .run(|c| audit::note_other(c, audit::Actor::CommandLine, FIX, details))?;
        }
        let left = i64::try_from(different.len()).unwrap_or(i64::MAX);
        let did = format!("declared {} and bound all queues", missing.join(", "));
        Ok((check.repaired(did, left), lanes_of(&missing)))
    }

    fn epoch(&mut self, link: &Link) -> Result<(Check, ()), LookError> {
        let seen = self.session.run(epoch::current)?;
        if seen == 0 {
            let says = "no api-service has met a broker yet";
            return Ok((Check::new(EPOCH, State::Ok, says), ()));
        }
        if link.wait(marker::is_there(&link.connection, seen))? {
            let says = format!("the broker's data is that of epoch {seen}");
            return Ok((Check::new(EPOCH, State::Ok, says), ()));
        }
        let says = format!("warren.epoch.{seen} is missing: the broker has lost its data");
        let check = Check::new(EPOCH, State::Finding, says)
            .remedy(
                "see that an api-service runs: its reconciler publishes every waiting task again",
            )
            .fixable();
        if !self.options.fix {
            return Ok((check, ()));
        }
        let begun = self.session.run(|connection| {
            connection.transaction(|connection| {
                let begun = epoch::begin(connection, seen)?;
                let details = json!({"check": EPOCH, "changed": begun});
                audit::note_other(connection, audit::Actor::CommandLine, FIX, details)?;
                Ok(begun)
            })
        })?;
        let Some(messages) = begun else {
            let did = "an api-service was quicker";
            return Ok((check.repaired(did, 0), ()));
        };
        link.wait(marker::make(&link.connection, seen + 1))?;
        let did = format!(
            "began epoch {}; {messages} messages are in the outbox",
            seen + 1
        );
        Ok((check.repaired(did, 0), ()))
    }
}

async fn differences(
    connection: &Connection,
    topology: &Topology,
) -> Result<Difference, AmqpError> {
    let mut found = Difference::default();
    for exchange in &topology.exchanges {
        // The answer "no" closes the channel.
        let channel = connection.create_channel().await?;
        let mut answer = exchange.declare(&channel, Declare::Look).await;
        if answer.is_ok() {
            answer = exchange.declare(&channel, Declare::Make).await;
        }
        found.note(exchange_label(&exchange.name), answer)?;
    }
    for queue in &topology.queues {
        let channel = connection.create_channel().await?;
        let mut answer = queue.declare(&channel, Declare::Look).await;
        if answer.is_ok() {
            answer = queue.declare(&channel, Declare::Make).await;
        }
        found.note(queue_label(&queue.name), answer.map(|_| ()))?;
    }
    Ok(found)
}

impl Difference {
    fn note(&mut self, label: String, answer: Result<(), AmqpError>) -> Result<(), AmqpError> {
        match answer {
            Ok(()) => {}
            Err(error) if is_not_found(&error) => self.missing.push(label),
            Err(error) if is_different(&error) => self.different.push(label),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Declares and binds all of it but those.
async fn make(
    connection: &Connection,
    topology: &Topology,
    different: &[String],
) -> Result<(), AmqpError> {
    let channel = connection.create_channel().await?;
    let is_good = |label: String| !different.contains(&label);
    let exchanges = topology.exchanges.iter();
    for exchange in exchanges.filter(|one| is_good(exchange_label(&one.name))) {
        exchange.declare(&channel, Declare::Make).await?;
    }
    let queues = topology.queues.iter();
    for queue in queues.filter(|one| is_good(queue_label(&one.name))) {
        queue.declare(&channel, Declare::Make).await?;
        queue.bind(&channel).await?;
    }
    channel.close(200, "declared".into()).await
}

/// Those of the queues that are tasks' lanes, as `<queue>.<lane>`.
fn lanes_of(missing: &[String]) -> Vec<String> {
    let all = Queue::ALL
        .iter()
        .flat_map(|queue| Lane::ALL.iter().map(move |lane| (*queue, *lane)));
    all.filter(|(queue, lane)| missing.contains(&queue_label(&topology::task_queue(*queue, *lane))))
        .map(|(queue, lane)| topology::routing_key(queue, lane))
        .collect()
}
