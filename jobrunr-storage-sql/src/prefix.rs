//! What goes before the names of all tables, so that several applications can share one database.

use std::fmt;
use std::str::FromStr;

/// Longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 32;

/// A prefix of table names: at most 32 of `a-z`, `0-9` and `_`, so that it can stand in SQL text as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TablePrefix {
    text: String,
    /// The schema with its dot; empty if the database decides.
    qualifier: String,
}

/// A text that cannot go before the names of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPrefix(());

impl fmt::Display for InvalidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table prefix is at most {MAX_PREFIX_BYTES} characters of a-z, 0-9 and '_'")
    }
}

impl std::error::Error for InvalidPrefix {}

impl TablePrefix {
    /// Checks that `text` can go before the names of tables.
    ///
    /// # Errors
    /// [`InvalidPrefix`] if it cannot.
    pub fn new(text: &str) -> Result<Self, InvalidPrefix> {
        let is_harmless = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if text.len() <= MAX_PREFIX_BYTES && text.bytes().all(is_harmless) {
            Ok(Self { text: text.to_owned(), qualifier: String::new() })
        } else {
            Err(InvalidPrefix(()))
        }
    }

    /// The same prefix, for tables in this schema.
    ///
    /// # Errors
    /// [`InvalidPrefix`] if the schema's name breaks the rule for prefixes, or is empty.
    pub fn in_schema(self, schema: &str) -> Result<Self, InvalidPrefix> {
        if schema.is_empty() || Self::new(schema).is_err() {
            return Err(InvalidPrefix(()));
        }
        Ok(Self { qualifier: format!("\"{schema}\"."), ..self })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Puts the prefix into SQL text: with the schema, if there is one, wherever `{p}` stands, and without it, for names
    /// that must not have one, wherever `{n}` stands.
    #[must_use]
    pub fn render(&self, template: &str) -> String {
        template.replace("{p}", &format!("{}{}", self.qualifier, self.text)).replace("{n}", &self.text)
    }
}

impl FromStr for TablePrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_stand_in_sql_text_is_a_prefix() {
        for good in ["", "app_", "a1", &"x".repeat(32)] {
            assert!(TablePrefix::new(good).is_ok(), "{good:?}");
        }
        for bad in ["\"; drop table x; --", "App", "a b", "ü", "a.b", &"x".repeat(33)] {
            assert!(TablePrefix::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_template_gets_the_prefix_wherever_it_asks_for_it() {
        let prefix = TablePrefix::new("app_").unwrap();

        assert_eq!(prefix.render("SELECT 1 FROM {p}job, {p}lane"), "SELECT 1 FROM app_job, app_lane");
    }

    #[test]
    fn a_schema_goes_before_tables_and_not_before_bare_names() {
        let prefix = TablePrefix::new("app_").unwrap().in_schema("mine").unwrap();

        assert_eq!(
            prefix.render("CREATE INDEX {n}i ON {p}job (x)"),
            "CREATE INDEX app_i ON \"mine\".app_job (x)"
        );
        assert!(TablePrefix::default().in_schema("").is_err());
        assert!(TablePrefix::default().in_schema("a\"b").is_err());
    }
}
