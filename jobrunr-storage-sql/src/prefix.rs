//! What goes before the names of all tables, so that several applications can share one database.

use std::fmt;
use std::str::FromStr;

/// Longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 32;

/// A prefix of table names: at most 32 of `a-z`, `0-9` and `_`, so that it can stand in SQL text as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TablePrefix(String);

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
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPrefix(()))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the prefix into SQL text, wherever `{p}` stands.
    #[must_use]
    pub fn render(&self, template: &str) -> String {
        template.replace("{p}", &self.0)
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
}
