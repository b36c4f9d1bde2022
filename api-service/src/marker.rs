//! The exchange that marks the broker's data as known: `warren.epoch.<n>`, with *n* on record in PostgreSQL. Where it is
//! missing, the broker has lost what it had.

use lapin::{Connection, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};
use shared::broker::is_not_found;

/// Whether the marker of that epoch is there.
pub(crate) async fn is_there(connection: &Connection, epoch: i64) -> Result<bool, lapin::Error> {
    match declare(connection, epoch, true).await {
        Ok(()) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) async fn make(connection: &Connection, epoch: i64) -> Result<(), lapin::Error> {
    declare(connection, epoch, false).await
}

async fn declare(connection: &Connection, epoch: i64, passive: bool) -> Result<(), lapin::Error> {
    // A failed passive declaration closes its channel.
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions {
        durable: true,
        passive,
        ..Default::default()
    };
    let name = format!("warren.epoch.{epoch}");
    channel
        .exchange_declare(
            name.into(),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        )
        .await?;
    channel.close(200, "checked".into()).await
}
