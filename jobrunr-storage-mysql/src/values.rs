//! What goes into statements: values that are bound, and lists that are bound as one JSON text.

use std::fmt::Write as _;

use jobrunr_core::JobId;
use sqlx::Arguments;
use sqlx::mysql::MySqlArguments;
use uuid::Uuid;

/// Values to be bound, in the order of their places.
#[derive(Debug, Default)]
pub(crate) struct Values(MySqlArguments);

const ENCODES: &str = "numbers, texts and bytes can be encoded";

impl Values {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn number(mut self, value: impl Into<Option<i64>>) -> Self {
        self.push_number(value);
        self
    }

    pub(crate) fn text(mut self, value: &str) -> Self {
        self.push_text(Some(value));
        self
    }

    /// A text whose bytes are what counts: a name, a key.
    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        self.push_bytes(Some(value));
        self
    }

    pub(crate) fn push_number(&mut self, value: impl Into<Option<i64>>) {
        self.0.add(value.into()).expect(ENCODES);
    }

    pub(crate) fn push_text(&mut self, value: Option<&str>) {
        self.0.add(value).expect(ENCODES);
    }

    pub(crate) fn push_bytes(&mut self, value: Option<&[u8]>) {
        self.0.add(value).expect(ENCODES);
    }

    pub(crate) fn into_arguments(self) -> MySqlArguments {
        self.0
    }
}

/// Rows as one JSON text: a list of lists, or of single values.
#[derive(Debug)]
pub(crate) struct Rows {
    json: String,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self { json: String::from("[") }
    }

    /// The ids of jobs, each a row of its own.
    pub(crate) fn of_ids<'a>(ids: impl IntoIterator<Item = &'a JobId>) -> String {
        let mut rows = Self::new();
        for id in ids {
            rows.value();
            rows.push_id(id.as_uuid());
        }
        rows.finish()
    }

    fn value(&mut self) {
        if !self.json.ends_with('[') {
            self.json.push(',');
        }
    }

    /// Begins a row, which begins with an id.
    pub(crate) fn row(&mut self, id: JobId) -> &mut Self {
        self.value();
        self.json.push('[');
        self.push_id(id.as_uuid());
        self
    }

    /// Begins a row, which begins with bytes.
    pub(crate) fn row_of_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.value();
        self.json.push('[');
        self.push_hex(bytes);
        self
    }

    /// Begins a row, which begins with a number.
    pub(crate) fn row_of_number(&mut self, number: i64) -> &mut Self {
        self.value();
        self.json.push('[');
        self.push(number);
        self
    }

    pub(crate) fn number(&mut self, number: impl Into<Option<i64>>) -> &mut Self {
        self.json.push(',');
        match number.into() {
            Some(number) => self.push(number),
            None => self.json.push_str("null"),
        }
        self
    }

    pub(crate) fn id(&mut self, id: JobId) -> &mut Self {
        self.json.push(',');
        self.push_id(id.as_uuid());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        self.json.push(',');
        match bytes {
            Some(bytes) => self.push_hex(bytes),
            None => self.json.push_str("null"),
        }
        self
    }

    pub(crate) fn end_row(&mut self) {
        self.json.push(']');
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.json.len() == 1
    }

    pub(crate) fn finish(mut self) -> String {
        self.json.push(']');
        self.json
    }

    fn push(&mut self, number: i64) {
        write!(self.json, "{number}").expect("a string takes whatever is written");
    }

    fn push_id(&mut self, id: &Uuid) {
        let mut buffer = Uuid::encode_buffer();
        self.json.push('"');
        self.json.push_str(id.simple().encode_lower(&mut buffer));
        self.json.push('"');
    }

    fn push_hex(&mut self, bytes: &[u8]) {
        self.json.push('"');
        for byte in bytes {
            write!(self.json, "{byte:02x}").expect("a string takes whatever is written");
        }
        self.json.push('"');
    }
}

/// A list as one JSON text: bytes as hexadecimal text.
pub(crate) fn list_of_bytes<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut rows = Rows::new();
    for value in values {
        rows.value();
        rows.push_hex(value);
    }
    rows.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_json() {
        let id = JobId::from(Uuid::from_u128(0xab));
        let mut rows = Rows::new();
        rows.row(id).number(1).number(None).bytes(Some(b"\"x")).end_row();
        rows.row_of_number(-5).id(id).bytes(None).end_row();

        let json = rows.finish();

        let hex = "000000000000000000000000000000ab";
        assert_eq!(json, format!(r#"[["{hex}",1,null,"2278"],[-5,"{hex}",null]]"#));
        assert_eq!(Rows::of_ids([]), "[]");
        assert_eq!(Rows::of_ids([&id, &id]), format!(r#"["{hex}","{hex}"]"#));
        assert_eq!(list_of_bytes([b"a".as_slice(), b""]), r#"["61",""]"#);
    }
}
