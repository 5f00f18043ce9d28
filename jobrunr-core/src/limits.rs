//! Every limit of the engine, once. What goes over a limit where cutting would lie is refused at creation.

/// Most labels a job may carry.
pub const MAX_LABELS: usize = 8;
/// Longest label, in bytes.
pub const MAX_LABEL_BYTES: usize = 64;
/// Longest job name, in bytes; longer names are cut at a character boundary.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest queue name, in bytes.
pub const MAX_QUEUE_BYTES: usize = 64;
/// Longest job signature (job type), in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 128;
/// Longest id of a recurring job, in bytes.
pub const MAX_RECURRING_JOB_ID_BYTES: usize = 128;
/// Longest server name, in bytes; longer names are cut at a character boundary.
pub const MAX_SERVER_NAME_BYTES: usize = 128;
/// Longest text (a message, a backtrace, a reason) kept in one history entry, in bytes; longer text is cut with a marker.
pub const MAX_ENTRY_TEXT_BYTES: usize = 16 * 1024;
/// Longest payload, in bytes, that a storage accepts unless its options say otherwise.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 1024 * 1024;
/// Longest result of a job that is kept, in bytes of JSON.
pub const MAX_RESULT_BYTES: usize = 1024 * 1024;
/// Longest name of a value that running code saves with its job, in bytes.
pub const MAX_METADATA_NAME_BYTES: usize = 256;
/// Longest name of a step that a job does once, in bytes.
pub const MAX_STEP_NAME_BYTES: usize = 200;
/// Longest value that running code saves with its job, in bytes of JSON; also the longest kept result of a step.
pub const MAX_METADATA_VALUE_BYTES: usize = 1024 * 1024;
/// Most log lines that are kept of a job, over all its runs; what comes after is left out, with a marker.
pub const MAX_LOG_LINES: usize = 1_000;
/// Most text of log lines that is kept of a job, over all its runs, in bytes; what comes after is left out, with a marker.
pub const MAX_LOG_BYTES: usize = 256 * 1024;
/// Most ticks that a recurring job makes up for after nobody was up.
pub const MAX_MISSED_RUNS: u32 = 1_000;
/// Most runs that a recurring job remembers as not ended; of more, the oldest are forgotten: no tick waits for them or
/// deletes them. No fewer than the missed runs that wait for each other.
pub const MAX_OPEN_RUNS: usize = 1_000;
/// Retries of a job that says nothing itself, on a server that says nothing either.
pub const DEFAULT_RETRIES: u32 = 10;

const CUT_MARKER: &str = " … [cut]";

/// Cuts `text` to at most `max_bytes` at a character boundary, without a marker.
pub(crate) fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// Cuts `text` so that it fits [`MAX_ENTRY_TEXT_BYTES`], ending in a marker where something was left out.
pub(crate) fn cut_entry_text(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > MAX_ENTRY_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_ENTRY_TEXT_BYTES - CUT_MARKER.len()));
        text.push_str(CUT_MARKER);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_boundary() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }

    #[test]
    fn an_entry_text_over_the_limit_ends_in_the_marker_and_fits() {
        let cut = cut_entry_text("é".repeat(MAX_ENTRY_TEXT_BYTES));

        assert!(cut.len() <= MAX_ENTRY_TEXT_BYTES && cut.ends_with(CUT_MARKER));
        assert_eq!(cut_entry_text("short"), "short");
    }
}
