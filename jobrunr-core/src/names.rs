//! The validated texts of a job: signature, queue, labels, id of a recurring job. Each is checked once, where it is made.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::{
    MAX_LABEL_BYTES, MAX_LABELS, MAX_QUEUE_BYTES, MAX_RECURRING_JOB_ID_BYTES, MAX_SIGNATURE_BYTES,
};

/// A text that breaks the rule for what it should name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be {what}: {rule}")]
pub struct InvalidName {
    what: &'static str,
    rule: &'static str,
    text: String,
}

impl InvalidName {
    fn new(what: &'static str, rule: &'static str, text: &str) -> Self {
        let text = crate::limits::cut(text, 2 * MAX_SIGNATURE_BYTES).to_owned();
        Self { what, rule, text }
    }
}

macro_rules! name_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Checks that `text` can be ", $what, ": ", $rule, ".")]
            ///
            /// # Errors
            /// [`InvalidName`] if it cannot.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidName::new($what, $rule, text)) }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;

            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name_newtype! {
    /// The stable type of a job, which says what handler runs it.
    JobSignature, "a job type", "1 to 128 bytes without control characters",
    |text| (1..=MAX_SIGNATURE_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

name_newtype! {
    /// A line in which jobs wait for a worker.
    QueueName, "a queue name", "1 to 64 bytes of a-z, 0-9, '_', '.' and '-'",
    |text| {
        (1..=MAX_QUEUE_BYTES).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
    }
}

name_newtype! {
    /// A word that jobs are found by.
    Label, "a label", "1 to 64 bytes without control characters",
    |text| (1..=MAX_LABEL_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

name_newtype! {
    /// Names one recurring job.
    RecurringJobId, "the id of a recurring job", "1 to 128 bytes of A-Z, a-z, 0-9 and '_.,()-'",
    |text| {
        (1..=MAX_RECURRING_JOB_ID_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.,()-".contains(&byte))
    }
}

impl QueueName {
    /// The queue of jobs that name none: `default`.
    #[must_use]
    pub fn default_queue() -> Self {
        Self("default".into())
    }
}

impl RecurringJobId {
    /// The id of a recurring job that was given none: the job type, with `-` for each character that ids cannot hold.
    ///
    /// Where a character had to be replaced, a check sum keeps two job types apart.
    #[must_use]
    pub fn of_signature(signature: &JobSignature) -> Self {
        if let Ok(id) = Self::new(signature) {
            return id;
        }
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "_.,()-".contains(letter);
        let text = signature.as_str();
        let plain: String = text.chars().map(|letter| if allowed(letter) { letter } else { '-' }).collect();
        let sum = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string();
        // What is left is ASCII, so it can be cut anywhere.
        let kept = plain.len().min(MAX_RECURRING_JOB_ID_BYTES - 9);
        Self(format!("{}-{}", &plain[..kept], &sum[..8]).into())
    }
}

impl Default for QueueName {
    fn default() -> Self {
        Self::default_queue()
    }
}

/// The labels of one job: at most eight, in the order given, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Label>", into = "Vec<Label>")]
pub struct Labels(Vec<Label>);

/// More labels than a job may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job carries at most {MAX_LABELS} labels, not {count}")]
pub struct TooManyLabels {
    count: usize,
}

impl Labels {
    /// Collects labels, dropping repeated ones and keeping the order of the first ones.
    ///
    /// # Errors
    /// [`TooManyLabels`] if more than eight different ones are left.
    pub fn new(labels: impl IntoIterator<Item = Label>) -> Result<Self, TooManyLabels> {
        let mut distinct = Vec::new();
        for label in labels {
            if !distinct.contains(&label) {
                distinct.push(label);
            }
        }
        if distinct.len() > MAX_LABELS {
            return Err(TooManyLabels { count: distinct.len() });
        }
        Ok(Self(distinct))
    }

    /// The labels in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[Label] {
        &self.0
    }

    /// Whether `label` is one of them, exactly.
    #[must_use]
    pub fn contains(&self, label: &str) -> bool {
        self.0.iter().any(|own| own == label)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl TryFrom<Vec<Label>> for Labels {
    type Error = TooManyLabels;

    fn try_from(labels: Vec<Label>) -> Result<Self, TooManyLabels> {
        Self::new(labels)
    }
}

impl From<Labels> for Vec<Label> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_lower_case_words() {
        for good in ["default", "high-prio", "a", "x.y_z-0", &"q".repeat(MAX_QUEUE_BYTES)] {
            assert_eq!(QueueName::new(good).unwrap(), *good);
        }
        for bad in ["", "High", "two words", "ü", "a/b", &"q".repeat(MAX_QUEUE_BYTES + 1)] {
            assert!(QueueName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_may_be_any_text_of_up_to_64_bytes() {
        for good in ["tenant:ü", "100% \"sure\"", "a,b", &"é".repeat(32)] {
            assert!(Label::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "a\nb", &"é".repeat(33)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn repeated_labels_count_once_and_the_order_stays() {
        let labels = |texts: &[&str]| Labels::new(texts.iter().map(|text| Label::new(text).unwrap()));

        assert_eq!(labels(&["b", "a", "b"]).unwrap(), labels(&["b", "a"]).unwrap());
        assert_eq!(labels(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]), Err(TooManyLabels { count: 9 }));
    }

    #[test]
    fn every_job_type_gives_an_id_of_its_own_for_a_recurring_job() {
        let id = |signature: &str| RecurringJobId::of_signature(&signature.parse().unwrap()).to_string();

        assert_eq!(id("daily_report"), "daily_report");
        assert_eq!(id("app::mail/sent"), format!("app--mail-sent-{}", &id("app::mail/sent")[15..]));
        assert_ne!(id("send mail"), id("send/mail"));
        for long in ["ü".repeat(64), " ".repeat(128), "x".repeat(128)] {
            assert!(RecurringJobId::new(id(&long)).is_ok(), "{long}");
        }
    }

    #[test]
    fn an_invalid_name_says_what_it_should_have_been() {
        let error = QueueName::new("No Queue").unwrap_err();

        assert_eq!(
            error.to_string(),
            "\"No Queue\" cannot be a queue name: 1 to 64 bytes of a-z, 0-9, '_', '.' and '-'"
        );
    }

    #[test]
    fn json_cannot_smuggle_in_an_invalid_name() {
        assert!(serde_json::from_str::<QueueName>("\"No\"").is_err());
        assert!(serde_json::from_str::<RecurringJobId>("\"a b\"").is_err());
    }
}
