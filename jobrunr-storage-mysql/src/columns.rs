//! Reading columns, of which any may hold anything.

use jobrunr_storage_sql::Unreadable;
use sqlx::mysql::MySqlRow;
use sqlx::{Row, ValueRef};
use uuid::Uuid;

use crate::error::{Failure, Outcome};

/// Columns by their places.
pub(crate) trait Columns {
    fn optional_number(&self, index: usize) -> Result<Option<i64>, Unreadable>;
    fn optional_bytes(&self, index: usize) -> Result<Option<&[u8]>, Unreadable>;

    fn number_or(&self, index: usize) -> Result<i64, Unreadable> {
        self.optional_number(index)?.ok_or_else(|| Unreadable::because("a number is missing"))
    }

    fn optional_str(&self, index: usize) -> Result<Option<&str>, Unreadable> {
        let text = self.optional_bytes(index)?.map(std::str::from_utf8).transpose();
        text.map_err(|_| Unreadable::because("a text is not UTF-8"))
    }

    fn optional_text(&self, index: usize) -> Result<Option<String>, Unreadable> {
        Ok(self.optional_str(index)?.map(str::to_owned))
    }

    fn text_or(&self, index: usize) -> Result<&str, Unreadable> {
        self.optional_str(index)?.ok_or_else(|| Unreadable::because("a text is missing"))
    }

    fn optional_id(&self, index: usize) -> Result<Option<Uuid>, Unreadable> {
        let id = self.optional_bytes(index)?.map(Uuid::from_slice).transpose();
        id.map_err(|_| Unreadable::because("an id has not 16 bytes"))
    }

    fn id_or(&self, index: usize) -> Result<Uuid, Unreadable> {
        self.optional_id(index)?.ok_or_else(|| Unreadable::because("an id is missing"))
    }

    fn small_or(&self, index: usize) -> Result<i32, Unreadable> {
        i32::try_from(self.number_or(index)?).map_err(|_| Unreadable::because("a number is out of range"))
    }

    fn number(&self, index: usize) -> Outcome<i64> {
        self.number_or(index).map_err(Failure::from)
    }

    fn small(&self, index: usize) -> Outcome<i32> {
        self.small_or(index).map_err(Failure::from)
    }

    fn text(&self, index: usize) -> Outcome<&str> {
        self.text_or(index).map_err(Failure::from)
    }

    fn id(&self, index: usize) -> Outcome<Uuid> {
        self.id_or(index).map_err(Failure::from)
    }
}

impl Columns for MySqlRow {
    fn optional_number(&self, index: usize) -> Result<Option<i64>, Unreadable> {
        self.try_get(index).map_err(|_| Unreadable::because("a number is no number"))
    }

    fn optional_bytes(&self, index: usize) -> Result<Option<&[u8]>, Unreadable> {
        let value = self.try_get_raw(index).map_err(|_| Unreadable::because("a column is missing"))?;
        if value.is_null() {
            return Ok(None);
        }
        // Unchecked, because texts are bytes here, whatever collation they have.
        self.try_get_unchecked(index).map_err(|_| Unreadable::because("a text is no text"))
    }
}
