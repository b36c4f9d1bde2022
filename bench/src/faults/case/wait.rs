//! What a play waits for, at most until its limit.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::stack::Service;
use uuid::Uuid;

use super::Case;
use crate::rig::POLL;

impl Case<'_> {
    /// Waits until so many more requests were answered 202.
    pub async fn wait_for_acceptances(&self, more: u64) -> Result<()> {
        let load = self.load.as_ref().context("no load runs")?;
        let before = load.accepted();
        while load.accepted() < before + more {
            if Instant::now() > self.until {
                bail!(
                    "only {} of {more} further requests were accepted in time",
                    load.accepted() - before
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until a count in the database has come so far.
    pub async fn wait_for_number(&self, sql: &str, wanted: u64) -> Result<()> {
        loop {
            let number = self.rig.database.number(sql).await?;
            if number >= wanted {
                return Ok(());
            }
            if Instant::now() > self.until {
                bail!("{number} instead of {wanted}: {sql}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until so many workers have been taken for dead since the stack was started.
    pub async fn wait_for_deaths(&self, wanted: u64) -> Result<()> {
        while self.rig.database.lost_workers().await? < wanted {
            if Instant::now() > self.until {
                bail!("the reapers have not seen {wanted} workers die");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until no task waits or runs.
    pub async fn wait_until_all_is_final(&self) -> Result<()> {
        while self.rig.database.has_live_tasks().await? {
            if Instant::now() > self.until {
                bail!("some tasks still wait or run");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until so many mails are at the sink.
    pub async fn wait_for_mails(&self, count: u64) -> Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.rig.wait_for_mails(count, left).await
    }

    /// Waits until the operator sees so many AMQP connections.
    pub async fn wait_for_connections(&self, count: usize) -> Result<()> {
        loop {
            let management = self.rig.stack.rabbitmq.management();
            let seen: Vec<Value> = management.get(&["connections"]).await?;
            if seen.len() >= count {
                return Ok(());
            }
            if Instant::now() > self.until {
                bail!("the operator sees {} of {count} connections", seen.len());
            }
            tokio::time::sleep(POLL * 2).await;
        }
    }

    /// Waits until the service's own health says that the broker takes nothing from it.
    pub async fn wait_until_blocked(&self, service: &Service, pointer: &str) -> Result<()> {
        loop {
            let health = service.health().await?;
            let seen = health.pointer(pointer).and_then(Value::as_str);
            if seen == Some("blocked") {
                return Ok(());
            }
            if Instant::now() > self.until {
                let name = service.name();
                bail!("{name} still sees its broker {}", seen.unwrap_or("nowhere"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) async fn wait_for_the_last(&self, accepted: &HashSet<Uuid>) -> Result<()> {
        while Instant::now() < self.until {
            let enough = accepted.len() as u64;
            if self.may_cancel {
                if !self.rig.database.has_live_tasks().await? {
                    return Ok(());
                }
            } else if self.rig.sink.count().await? >= enough
                && !self.rig.database.has_live_tasks().await?
            {
                let arrivals = self.rig.sink.deliveries().await?;
                if accepted.iter().all(|id| arrivals.contains_key(id)) {
                    return Ok(());
                }
            }
            tokio::time::sleep(POLL * 4).await;
        }
        Ok(())
    }
}
