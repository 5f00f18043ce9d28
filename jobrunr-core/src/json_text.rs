//! JSON that is carried and stored as the text it was made as, never parsed on the way.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value as text: the payload of a job or the result of a handler.
///
/// Cloning shares the text. Two are equal if their texts are, byte for byte. `Debug` shows only the length: what a
/// job carries may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// Serialises `value`.
    ///
    /// # Errors
    /// What serde says, if `value` is not representable as JSON (a map with keys that are no strings, for example).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(|text| Self(text.into()))
    }

    /// Takes text that was read from a store, checking that it is one JSON value.
    ///
    /// # Errors
    /// What serde says, if it is not.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, serde_json::Error> {
        let text = text.into();
        serde_json::from_str::<serde::de::IgnoredAny>(&text)?;
        Ok(Self(text))
    }

    /// Takes text known to be JSON because [`as_str`](Self::as_str) gave it to the store, without checking it again.
    #[must_use]
    pub fn from_stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Deserialises the value.
    ///
    /// # Errors
    /// What serde says, if the text does not fit `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of the text in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the text is empty, which no JSON is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.0.len())
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(Box::<str>::from(raw).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_survives_being_a_part_of_other_json() {
        let text = JsonText::parse(r#"{"b": 1.0, "a":[18446744073709551615, -0.0]}"#).unwrap();

        let whole = serde_json::to_string(&vec![text.clone()]).unwrap();

        assert_eq!(serde_json::from_str::<Vec<JsonText>>(&whole).unwrap(), [text]);
    }

    #[test]
    fn debug_does_not_show_the_content() {
        let secret = JsonText::of("password").unwrap();

        assert!(!format!("{secret:?}").contains("password"));
    }

    #[test]
    fn text_that_is_no_json_is_refused() {
        assert!(JsonText::parse("{").is_err());
        assert!(JsonText::parse("").is_err());
    }
}
