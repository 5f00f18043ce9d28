//! The limits of the engine that can be checked before the program runs. `jobrunr_core::limits` owns them; a test compares.

pub(crate) const MAX_LABELS: usize = 8;
const MAX_LABEL_BYTES: usize = 64;
const MAX_QUEUE_BYTES: usize = 64;
const MAX_JOB_TYPE_BYTES: usize = 128;
const MAX_RECURRING_JOB_ID_BYTES: usize = 128;

/// What a text is to name, and what it must be like for that.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    JobType,
    Queue,
    Label,
    RecurringJobId,
}

impl Rule {
    /// Says what is wrong with a text that is known whole.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        let is_valid = match self {
            Self::JobType => is_line(text, MAX_JOB_TYPE_BYTES),
            Self::Queue => is_queue(text),
            Self::Label => is_line(text, MAX_LABEL_BYTES),
            Self::RecurringJobId => is_recurring_job_id(text),
        };
        if is_valid { Ok(()) } else { Err(self.complaint(text)) }
    }

    fn complaint(self, text: &str) -> String {
        let (what, rule) = match self {
            Self::JobType => {
                ("a job type", format!("1 to {MAX_JOB_TYPE_BYTES} bytes without control characters"))
            }
            Self::Queue => {
                ("a queue name", format!("1 to {MAX_QUEUE_BYTES} bytes of a-z, 0-9, '_', '.' and '-'"))
            }
            Self::Label => ("a label", format!("1 to {MAX_LABEL_BYTES} bytes without control characters")),
            Self::RecurringJobId => (
                "the id of a recurring job",
                format!("1 to {MAX_RECURRING_JOB_ID_BYTES} bytes of A-Z, a-z, 0-9 and '_.,()-'"),
            ),
        };
        format!("{text:?} cannot be {what}: write {rule}")
    }
}

/// Says what is wrong with the constant part of a label that goes on with fields.
pub(crate) fn check_label_with_fields(constant: &str) -> Result<(), String> {
    if constant.is_empty() { Ok(()) } else { Rule::Label.check(constant) }
}

fn is_line(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && !text.contains(char::is_control)
}

fn is_recurring_job_id(text: &str) -> bool {
    is_line(text, MAX_RECURRING_JOB_ID_BYTES)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.,()-".contains(&byte))
}

fn is_queue(text: &str) -> bool {
    is_line(text, MAX_QUEUE_BYTES)
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use jobrunr_core::{JobSignature, Label, QueueName, RecurringJobId, limits};

    use super::*;

    #[test]
    fn the_limits_are_those_of_the_engine() {
        assert_eq!(MAX_LABELS, limits::MAX_LABELS);
        assert_eq!(MAX_LABEL_BYTES, limits::MAX_LABEL_BYTES);
        assert_eq!(MAX_QUEUE_BYTES, limits::MAX_QUEUE_BYTES);
        assert_eq!(MAX_JOB_TYPE_BYTES, limits::MAX_SIGNATURE_BYTES);
        assert_eq!(MAX_RECURRING_JOB_ID_BYTES, limits::MAX_RECURRING_JOB_ID_BYTES);
    }

    #[test]
    fn the_macros_and_the_engine_agree_on_every_text() {
        let long: Vec<String> = [63, 64, 65, 127, 128, 129].map(|length| "x".repeat(length)).into();
        let short = [
            "",
            "default",
            "high-prio",
            "High",
            "two words",
            "x.y_z-0",
            "ü",
            "a\nb",
            "tenant:1",
            "\u{7f}",
            "a.b,(c)",
        ];

        for text in short.into_iter().chain(long.iter().map(String::as_str)) {
            assert_eq!(Rule::JobType.check(text).is_ok(), JobSignature::new(text).is_ok(), "{text:?}");
            assert_eq!(Rule::Queue.check(text).is_ok(), QueueName::new(text).is_ok(), "{text:?}");
            assert_eq!(Rule::Label.check(text).is_ok(), Label::new(text).is_ok(), "{text:?}");
            let is_id = RecurringJobId::new(text).is_ok();
            assert_eq!(Rule::RecurringJobId.check(text).is_ok(), is_id, "{text:?}");
        }
    }

    #[test]
    fn a_complaint_says_what_to_write() {
        assert_eq!(
            Rule::Queue.check("No Queue").unwrap_err(),
            "\"No Queue\" cannot be a queue name: write 1 to 64 bytes of a-z, 0-9, '_', '.' and '-'"
        );
    }
}
