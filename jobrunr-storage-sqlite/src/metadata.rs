//! Small values that belong to the cluster as a whole or to an owner of their own.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jobrunr_core::storage::{CompareAndSet, Metadata, MetadataStore, StorageError};
use jobrunr_storage_sql::{from_micros, micros};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};

use crate::SqliteStorage;

#[async_trait]
impl MetadataStore for SqliteStorage {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        let metadata = metadata.clone();
        self.write("save metadata", move |session| {
            let Metadata { name, owner, value, created_at, updated_at } = &metadata;
            let mut save = session.view.prepare(&session.view.statements.save_metadata)?;
            save.execute(params![name, owner, value, micros(*created_at), micros(*updated_at)])?;
            Ok(())
        })
        .await
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.read("find metadata", move |view| {
            let mut statement = view.prepare(&view.statements.find_metadata)?;
            Ok(statement.query_row([&name, &owner], read).optional()?)
        })
        .await
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        let name = name.to_owned();
        self.read("list metadata", move |view| {
            let mut statement = view.prepare(&view.statements.list_metadata)?;
            let rows = statement.query_map([&name], read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        let (name, owner) = (name.to_owned(), owner.map(str::to_owned));
        self.write("delete metadata", move |session| {
            let statements = session.view.statements;
            let deleted = match &owner {
                Some(owner) => session.view.prepare(&statements.delete_metadata)?.execute([&name, owner])?,
                None => session.view.prepare(&statements.delete_all_metadata)?.execute([&name])?,
            };
            Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
        })
        .await
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        let change = change.clone();
        self.write("compare and set metadata", move |session| {
            let CompareAndSet { name, owner, expected, new, now } = &change;
            let statements = session.view.statements;
            let changed =
                match expected {
                    Some(expected) => session
                        .view
                        .prepare(&statements.replace_metadata)?
                        .execute(params![name, owner, new, micros(*now), expected])?,
                    None => {
                        let mut insert = session.view.prepare(&statements.insert_new_metadata)?;
                        insert.execute(params![name, owner, new, micros(*now)])?
                    }
                };
            Ok(changed > 0)
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Metadata> {
    Ok(Metadata {
        name: row.get(0)?,
        owner: row.get(1)?,
        value: row.get(2)?,
        created_at: instant(row, 3)?,
        updated_at: instant(row, 4)?,
    })
}

fn instant(row: &Row<'_>, index: usize) -> rusqlite::Result<DateTime<Utc>> {
    from_micros(row.get(index)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Integer, error.into()))
}
