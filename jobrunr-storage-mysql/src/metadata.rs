//! Small values that belong to the cluster as a whole or to an owner of their own.

use async_trait::async_trait;
use jobrunr_core::storage::{CompareAndSet, Metadata, MetadataStore, StorageError};
use jobrunr_storage_sql::{Unreadable, from_micros, micros};
use sqlx::mysql::MySqlRow;

use crate::columns::Columns;
use crate::error::Outcome;
use crate::session::Session;
use crate::values::Values;
use crate::work::Work;
use crate::{MySqlStorage, PROVIDER};

/// Longest name, and longest owner, that their columns take.
const MAX_NAME_BYTES: usize = 1_024;

#[async_trait]
impl MetadataStore for MySqlStorage {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        let Metadata { name, owner, value, created_at, updated_at } = metadata.clone();
        check_length("the name of a value", &name)?;
        check_length("the owner of a value", &owner)?;
        let (created_at, updated_at) = (micros(created_at), micros(updated_at));
        self.shared
            .call("save metadata", move |session| {
                let values = Values::new().bytes(name.as_bytes()).bytes(owner.as_bytes()).text(&value);
                let values = values.number(created_at).number(updated_at);
                Box::pin(async move {
                    session.execute(&session.shared.statements.save_metadata, values).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.shared
            .call("find metadata", move |session| {
                let values = Values::new().bytes(name.as_bytes()).bytes(owner.as_bytes());
                Box::pin(async move {
                    let row = session.row(&session.shared.statements.find_metadata, values).await?;
                    Ok(row.map(|row| read(&row)).transpose()?)
                })
            })
            .await
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        let name = name.to_owned();
        self.shared
            .call("list metadata", move |session| {
                let values = Values::new().bytes(name.as_bytes());
                Box::pin(async move {
                    let rows = session.rows(&session.shared.statements.list_metadata, values).await?;
                    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
                })
            })
            .await
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        let work = DeleteMetadata { name: name.to_owned(), owner: owner.map(str::to_owned) };
        self.shared.write("delete metadata", work).await
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        check_length("the name of a value", &change.name)?;
        check_length("the owner of a value", &change.owner)?;
        self.shared.write("compare and set metadata", SetMetadata(change.clone())).await
    }
}

fn check_length(what: &'static str, name: &str) -> Result<(), StorageError> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let (what, actual_bytes) = (what.to_owned(), name.len());
    Err(StorageError::TooLarge { provider: PROVIDER, what, actual_bytes, max_bytes: MAX_NAME_BYTES })
}

fn read(row: &MySqlRow) -> Result<Metadata, Unreadable> {
    Ok(Metadata {
        name: row.text_or(0)?.to_owned(),
        owner: row.text_or(1)?.to_owned(),
        value: row.text_or(2)?.to_owned(),
        created_at: from_micros(row.number_or(3)?)?,
        updated_at: from_micros(row.number_or(4)?)?,
    })
}

struct DeleteMetadata {
    name: String,
    owner: Option<String>,
}

#[async_trait]
impl Work for DeleteMetadata {
    type Output = u64;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<u64> {
        let statements = session.statements();
        let name = Values::new().bytes(self.name.as_bytes());
        match &self.owner {
            Some(owner) => session.execute(&statements.delete_metadata, name.bytes(owner.as_bytes())).await,
            None => session.execute(&statements.delete_all_metadata, name).await,
        }
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let name = Values::new().bytes(self.name.as_bytes());
        let left = session.rows(&session.shared.statements.list_metadata, name).await?;
        Ok(match &self.owner {
            None => left.is_empty(),
            Some(owner) => left.iter().all(|row| row.text(1).is_ok_and(|of| of != owner)),
        })
    }
}

struct SetMetadata(CompareAndSet);

#[async_trait]
impl Work for SetMetadata {
    type Output = bool;

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let CompareAndSet { name, owner, expected, new, now } = &self.0;
        let (name, owner, now) = (name.as_bytes(), owner.as_bytes(), micros(*now));
        let statements = session.statements();
        match expected {
            Some(expected) => {
                let values = Values::new().text(new).number(now).bytes(name).bytes(owner);
                Ok(session.execute(&statements.replace_metadata, values.text(expected)).await? > 0)
            }
            None => {
                let values = Values::new().bytes(name).bytes(owner).text(new).number(now).number(now);
                match session.execute(&statements.insert_new_metadata, values).await {
                    Err(failure) if failure.is_duplicate() => Ok(false),
                    result => result.map(|_| true),
                }
            }
        }
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let CompareAndSet { name, owner, new, now, .. } = &self.0;
        let values = Values::new().bytes(name.as_bytes()).bytes(owner.as_bytes());
        let row = session.row(&session.shared.statements.lock_metadata, values).await?;
        Ok(row.is_some_and(|row| {
            row.text(2).is_ok_and(|value| value == new) && row.number(4).is_ok_and(|at| at == micros(*now))
        }))
    }
}
