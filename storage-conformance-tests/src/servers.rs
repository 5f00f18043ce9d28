//! Servers and their heartbeats: scenarios 52 to 56.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use jobrunr_core::ServerId;
use jobrunr_core::storage::{
    BoxError, Heartbeat, HeartbeatReport, ServerAnnouncement, ServerLoad, ServerRecord, StorageProvider,
};

use crate::builders::{MICROSECOND, an_announcement};
use crate::{Fixture, ScenarioResult};

fn a_load(occupied_workers: usize) -> ServerLoad {
    ServerLoad {
        occupied_workers,
        is_paused: occupied_workers % 2 == 1,
        total_memory_bytes: 1 << 40,
        free_memory_bytes: u64::from(u32::MAX) + 7,
        process_memory_bytes: 1,
        cpu_load_permille: 999,
        process_cpu_load_permille: 1_000,
    }
}

fn beat(server_id: ServerId) -> Heartbeat {
    Heartbeat { server_id, load: a_load(3) }
}

/// The record of one server.
async fn record(storage: &dyn StorageProvider, id: ServerId) -> Result<ServerRecord, BoxError> {
    let records = storage.list_servers().await?;
    let record = records.into_iter().find(|record| record.announcement.id == id);
    record.ok_or_else(|| format!("server {id} is not listed").into())
}

/// Waits, by asking again, until the storage's clock has moved on.
async fn after(storage: &dyn StorageProvider, instant: DateTime<Utc>) -> Result<DateTime<Utc>, BoxError> {
    loop {
        let now = storage.storage_time().await?;
        if now > instant {
            return Ok(now);
        }
        tokio::task::yield_now().await;
    }
}

/// What a server says of itself is what others read.
pub async fn an_announced_server_is_listed_as_it_said(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    assert_eq!(storage.list_servers().await?, []);
    let plain = an_announcement("plain");
    let bare =
        ServerAnnouncement {
            queues: vec![], signatures: vec![], ..an_announcement("Zoë's 東京 \"host\"")
        };

    for announced in [plain, bare] {
        let before = storage.storage_time().await?;
        let told = storage.announce_server(&announced).await?;

        assert!(told >= before, "the storage's clock goes back");
        let record = record(storage, announced.id).await?;
        assert_eq!(record.announcement, announced);
        assert_eq!((record.first_heartbeat_at, record.last_heartbeat_at), (told, told));
        assert_eq!(record.load, ServerLoad::default());
    }
    Ok(())
}

/// The longest-running server is first: it is the master.
pub async fn servers_are_listed_oldest_first(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut announced = Vec::new();
    for number in 0..12 {
        let server = an_announcement(&format!("server {number}"));
        let at = storage.announce_server(&server).await?;
        announced.push((at, server.id));
        if number % 3 == 0 {
            after(storage, at).await?;
        }
    }
    for (_, id) in announced.iter().rev() {
        storage.heartbeat(&beat(*id)).await?;
    }

    let listed = storage.list_servers().await?;

    announced.sort();
    let listed: Vec<_> =
        listed.iter().map(|record| (record.first_heartbeat_at, record.announcement.id)).collect();
    assert_eq!(listed, announced, "by first heartbeat, then id");
    Ok(())
}

/// A server that is not sure whether its announcement arrived sends it again.
pub async fn announcing_twice_changes_only_the_announcement(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let first = an_announcement("first");
    storage.announce_server(&first).await?;
    storage.heartbeat(&beat(first.id)).await?;
    let before = record(storage, first.id).await?;
    after(storage, before.last_heartbeat_at).await?;

    let second = ServerAnnouncement { workers: 64, queues: vec![], name: "second".to_owned(), ..first };
    storage.announce_server(&second).await?;

    let expected = ServerRecord { announcement: second, ..before };
    assert_eq!(storage.list_servers().await?, [expected]);
    Ok(())
}

/// A sign of life is about life, and nothing else.
pub async fn a_heartbeat_updates_load_and_time_only(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let (server, bystander) = (an_announcement("beating"), an_announcement("silent"));
    let announced_at = storage.announce_server(&server).await?;
    storage.announce_server(&bystander).await?;
    let silent = record(storage, bystander.id).await?;
    after(storage, announced_at).await?;

    let load = a_load(7);
    let report = storage.heartbeat(&Heartbeat { server_id: server.id, load }).await?;

    assert!(report.is_announced);
    assert!(report.storage_time > announced_at);
    let expected = ServerRecord {
        announcement: server.clone(),
        first_heartbeat_at: announced_at,
        last_heartbeat_at: report.storage_time,
        load,
    };
    assert_eq!(record(storage, server.id).await?, expected);
    assert_eq!(record(storage, bystander.id).await?, silent);
    Ok(())
}

/// The largest numbers a server could ever report.
pub async fn extreme_loads_survive(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let server = an_announcement("large");
    storage.announce_server(&server).await?;
    let largest = u64::try_from(i64::MAX)?;
    let load = ServerLoad {
        occupied_workers: 1_000_000,
        is_paused: true,
        total_memory_bytes: largest,
        free_memory_bytes: largest - 1,
        process_memory_bytes: 0,
        cpu_load_permille: u16::MAX,
        process_cpu_load_permille: u16::MAX - 1,
    };

    storage.heartbeat(&Heartbeat { server_id: server.id, load }).await?;

    assert_eq!(record(storage, server.id).await?.load, load);
    Ok(())
}

/// Leases are measured by it.
pub async fn the_time_of_the_storage_never_goes_back(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let server = an_announcement("server");
    let mut latest = storage.announce_server(&server).await?;
    for round in 0..100 {
        let asked = if round % 2 == 0 { storage } else { &*other };
        let beat_at = asked.heartbeat(&beat(server.id)).await?.storage_time;
        assert!(beat_at >= latest, "round {round}: {beat_at} after {latest}");
        latest = asked.storage_time().await?;
        assert!(latest >= beat_at, "round {round}: {latest} after {beat_at}");
        assert_eq!(latest.timestamp_subsec_nanos() % 1_000, 0, "times have microseconds, no more");
    }
    Ok(())
}

/// Declared dead is dead: the server must learn it and come back under another id.
pub async fn a_heartbeat_of_a_removed_server_says_so_and_revives_nobody(
    fixture: &Fixture<'_>,
) -> ScenarioResult {
    let storage = fixture.storage();
    let server = an_announcement("removed");
    storage.announce_server(&server).await?;
    assert!(storage.remove_server(server.id).await?);

    let before = storage.storage_time().await?;
    let HeartbeatReport { storage_time, is_announced } = storage.heartbeat(&beat(server.id)).await?;

    assert!(!is_announced);
    assert!(storage_time >= before, "the time is told all the same");
    assert_eq!(storage.list_servers().await?, []);
    assert!(!storage.heartbeat(&beat(ServerId::new())).await?.is_announced);
    Ok(())
}

/// A server that stops takes its row along, once.
pub async fn a_server_is_removed_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let (leaving, staying) = (an_announcement("leaving"), an_announcement("staying"));
    storage.announce_server(&leaving).await?;
    storage.announce_server(&staying).await?;

    assert!(storage.remove_server(leaving.id).await?);
    assert!(!storage.remove_server(leaving.id).await?);
    assert!(!storage.remove_server(ServerId::new()).await?);

    let listed = storage.list_servers().await?;
    assert_eq!(listed.into_iter().map(|record| record.announcement).collect::<Vec<_>>(), [staying]);
    Ok(())
}

/// Silent since before the instant, strictly: who was heard at it is alive.
pub async fn servers_silent_since_before_the_instant_are_removed(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let mut silent = Vec::new();
    let mut latest = DateTime::UNIX_EPOCH;
    for number in 0..5 {
        let server = an_announcement(&format!("silent {number}"));
        latest = storage.announce_server(&server).await?;
        silent.push(server.id);
    }
    after(storage, latest).await?;
    let (beating, late) = (an_announcement("beating"), an_announcement("late"));
    storage.announce_server(&beating).await?;
    storage.announce_server(&late).await?;
    after(storage, record(storage, late.id).await?.last_heartbeat_at).await?;
    let heard_at = storage.heartbeat(&beat(beating.id)).await?.storage_time;
    after(storage, heard_at).await?;
    storage.heartbeat(&beat(late.id)).await?;

    let removed = storage.remove_silent_servers(latest + MICROSECOND).await?;
    silent.sort();
    assert_eq!(removed, silent, "reported, sorted by id");
    assert_eq!(storage.remove_silent_servers(heard_at).await?, [], "the instant itself is not silence");
    assert_eq!(storage.list_servers().await?.len(), 2);
    assert_eq!(storage.remove_silent_servers(heard_at + MICROSECOND).await?, [beating.id]);
    let now = storage.storage_time().await?;
    assert_eq!(storage.remove_silent_servers(now + TimeDelta::days(1)).await?, [late.id]);
    assert_eq!(storage.list_servers().await?, []);
    Ok(())
}

/// Every server looks for silent ones; each dead one has one finder.
pub async fn callers_at_once_report_each_silent_server_once(fixture: &Fixture<'_>) -> ScenarioResult {
    let storage = fixture.storage();
    let other = fixture.another_storage().await?;
    let mut silent = Vec::new();
    for number in 0..40 {
        let server = an_announcement(&format!("silent {number}"));
        storage.announce_server(&server).await?;
        silent.push(server.id);
    }
    let before = storage.storage_time().await? + TimeDelta::days(1);
    let callers = (0..8).map(|number| {
        let storage = if number % 2 == 0 { fixture.shared_storage() } else { Arc::clone(&other) };
        tokio::spawn(async move { storage.remove_silent_servers(before).await })
    });

    let mut removed = Vec::new();
    for report in try_join_all(callers).await? {
        removed.extend(report?);
    }

    removed.sort();
    silent.sort();
    assert_eq!(removed, silent);
    Ok(())
}
