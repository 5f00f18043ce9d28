//! The heartbeat: keeps the server's row alive and its clock right, and begins a new life where the row is gone.

use std::sync::Arc;

use jobrunr_core::storage::{Heartbeat, ServerLoad, StorageError};
use tokio::time::Instant;

use crate::back_off::BackOff;
use crate::election;
use crate::engine::Engine;
use crate::holdings::{Interruption, claim_of};
use crate::load::LoadMeter;
use crate::membership::Life;

/// Announces the server and sends its first heartbeat.
pub(crate) async fn begin(engine: &Arc<Engine>) -> Result<LoadMeter, StorageError> {
    announce(engine, engine.membership.life()).await?;
    let mut meter = LoadMeter::default();
    beat(engine, &mut meter).await?;
    Ok(meter)
}

/// Sends a heartbeat every poll interval, until there is nothing left to be alive for.
pub(crate) async fn keep_beating(engine: Arc<Engine>, mut meter: LoadMeter) {
    let poll_interval = engine.settings.poll_interval;
    let mut back_off = BackOff::new("send a heartbeat", &engine.health).at_most(poll_interval);
    let mut pause = poll_interval;
    loop {
        tokio::select! {
            () = engine.phases.parting.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match answered(&engine, beat(&engine, &mut meter)).await {
            Ok(()) => {
                back_off.succeeded();
                poll_interval
            }
            Err(error) => back_off.failed(&error),
        };
    }
}

/// One heartbeat and what goes with it.
async fn beat(engine: &Arc<Engine>, meter: &mut LoadMeter) -> Result<(), StorageError> {
    let life = engine.membership.life();
    let load =
        ServerLoad { occupied_workers: engine.desk.busy(), is_paused: engine.is_paused(), ..meter.measure() };
    let heartbeat = Heartbeat { server_id: life.id(), load };
    let sent_at = Instant::now();
    let sent_at_local = engine.clock.local_now();
    let report = engine.storage.heartbeat(&heartbeat).await?;
    engine.clock.adjust(sent_at_local, report.storage_time, engine.clock.local_now());

    if report.is_announced && !life.is_over() {
        engine.membership.renew_lease(sent_at);
    } else {
        begin_anew(engine, &life).await?;
    }
    engine.go_on();
    engine.suspect(None);
    election::hold(engine).await
}

/// A heartbeat that is not answered in time has failed, however long the storage goes on trying.
async fn answered(
    engine: &Engine,
    beat: impl Future<Output = Result<(), StorageError>>,
) -> Result<(), StorageError> {
    tokio::time::timeout(engine.settings.poll_interval * 2, beat).await.unwrap_or_else(|elapsed| {
        let (provider, operation) = (engine.storage.name(), "answer a heartbeat");
        Err(StorageError::Unavailable { provider, operation, source: elapsed.into() })
    })
}

async fn announce(engine: &Arc<Engine>, life: Arc<Life>) -> Result<(), StorageError> {
    let sent_at = Instant::now();
    let sent_at_local = engine.clock.local_now();
    let storage_time = engine.storage.announce_server(&engine.announcement(&life)).await?;
    engine.clock.adjust(sent_at_local, storage_time, engine.clock.local_now());
    engine.membership.begin(life);
    engine.membership.renew_lease(sent_at);
    Ok(())
}

/// The server was declared dead: lets go of everything it held and comes back under a new id.
async fn begin_anew(engine: &Arc<Engine>, life: &Life) -> Result<(), StorageError> {
    if !life.is_over() {
        tracing::warn!(server.id = %life.id(), "the server was declared dead; what it runs is cancelled");
        engine.membership.lose_lease();
        life.end();
        let waiting = engine.desk.clear();
        waiting.iter().for_each(|claimed| engine.tell_claimed(&claimed.job));
        engine.holdings.remove(waiting.iter().map(|claimed| claim_of(&claimed.job)));
        engine.holdings.interrupt_all(Interruption::TakenAway);
    }
    if engine.phases.stopping.is_cancelled() {
        return Ok(());
    }
    let next = Life::new(&engine.settings.name);
    announce(engine, Arc::clone(&next)).await?;
    tracing::info!(server.id = %next.id(), "the server is back under a new id");
    engine.expect_work();
    Ok(())
}
