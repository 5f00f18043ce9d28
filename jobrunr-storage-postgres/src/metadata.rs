//! Small values that belong to the cluster as a whole or to an owner of their own.

use async_trait::async_trait;
use jobrunr_core::storage::{CompareAndSet, Metadata, MetadataStore, StorageError};
use jobrunr_storage_sql::{from_micros, micros};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::PostgresStorage;
use crate::connection::Statement;
use crate::error::classify;

#[async_trait]
impl MetadataStore for PostgresStorage {
    async fn save_metadata(&self, metadata: &Metadata) -> Result<(), StorageError> {
        let Metadata { name, owner, value, created_at, updated_at } = metadata;
        let save = self
            .statement(&self.inner.statements.save_metadata)
            .bind(name.clone())
            .bind(owner.clone())
            .bind(value.clone())
            .bind(micros(*created_at))
            .bind(micros(*updated_at));
        let mut call = self.call("save metadata").await?;
        call.rows(save).await?;
        Ok(call.finish().await?)
    }

    async fn find_metadata(&self, name: &str, owner: &str) -> Result<Option<Metadata>, StorageError> {
        let find = self.statement(&self.inner.statements.find_metadata);
        let found =
            self.read_metadata("find metadata", find.bind(name.to_owned()).bind(owner.to_owned())).await?;
        Ok(found.into_iter().next())
    }

    async fn list_metadata(&self, name: &str) -> Result<Vec<Metadata>, StorageError> {
        let list = self.statement(&self.inner.statements.list_metadata).bind(name.to_owned());
        self.read_metadata("list metadata", list).await
    }

    async fn delete_metadata(&self, name: &str, owner: Option<&str>) -> Result<u64, StorageError> {
        let delete = self.statement(&self.inner.statements.delete_metadata);
        let delete = delete.bind(name.to_owned()).bind(owner.map(str::to_owned));
        self.count_written("delete metadata", delete).await
    }

    async fn compare_and_set_metadata(&self, change: &CompareAndSet) -> Result<bool, StorageError> {
        let CompareAndSet { name, owner, expected, new, now } = change;
        let statements = &self.inner.statements;
        let set = match expected {
            Some(_) => &statements.replace_metadata,
            None => &statements.insert_new_metadata,
        };
        let set =
            self.statement(set).bind(name.clone()).bind(owner.clone()).bind(new.clone()).bind(micros(*now));
        let set = match expected {
            Some(expected) => set.bind(expected.clone()),
            None => set,
        };
        Ok(!self.write_for_sure("compare and set metadata", set).await?.is_empty())
    }
}

impl PostgresStorage {
    async fn read_metadata(
        &self,
        operation: &'static str,
        statement: Statement,
    ) -> Result<Vec<Metadata>, StorageError> {
        let mut call = self.call(operation).await?;
        let rows = call.rows(statement).await?;
        call.finish().await?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| classify(&error, operation))
    }
}

fn read(row: &PgRow) -> Result<Metadata, sqlx::Error> {
    let instant = |index: usize| {
        let micros = row.try_get(index)?;
        from_micros(micros).map_err(|source| sqlx::Error::ColumnDecode {
            index: index.to_string(),
            source: Box::new(source),
        })
    };
    Ok(Metadata {
        name: row.try_get(0)?,
        owner: row.try_get(1)?,
        value: row.try_get(2)?,
        created_at: instant(3)?,
        updated_at: instant(4)?,
    })
}
