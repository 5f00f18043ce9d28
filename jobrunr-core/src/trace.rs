//! Which trace a job was created in: told when it is created, carried in its metadata, given to the span of each run.
//!
//! Nothing here knows any tracing system. A [`TraceCarrier`] is the bridge to the one that a program has.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::job::{Job, JobMetadata};

/// What the metadata of a job is named that holds the [`TraceParent`] of its creator.
pub const TRACE_PARENT: &str = "jobrunr-traceparent";

/// A bridge between jobs and the tracing system of a program.
///
/// Schedulers ask it where a job is created ([`JobScheduler::traces`](crate::JobScheduler::traces)), servers tell it when the
/// job runs. Without one a job carries nothing along and costs nothing more. What panics is logged and passed over.
pub trait TraceCarrier: Send + Sync + 'static {
    /// The span that goes on now, in the trace it belongs to; `None` = there is none, or none worth following.
    fn current(&self) -> Option<TraceParent>;

    /// Links the span of a run, which is not entered yet, to the span that the job was created in.
    fn link(&self, run: &tracing::Span, creator: &TraceParent);
}

/// A span of a trace, as a `traceparent` of [W3C Trace Context](https://www.w3.org/TR/trace-context/), version 00.
///
/// ```
/// # use jobrunr_core::trace::TraceParent;
/// let parent = TraceParent::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")?;
///
/// assert_eq!(parent, TraceParent::from_ids(parent.trace_id(), parent.span_id(), parent.flags())?);
/// # Ok::<(), jobrunr_core::trace::InvalidTraceParent>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

/// A text that is no `traceparent` of version 00.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no traceparent: it must read 00-<32 digits>-<16 digits>-<2 digits>, hexadecimal in lower case, and neither id may be zero"
)]
pub struct InvalidTraceParent;

impl TraceParent {
    /// Reads a `traceparent`.
    ///
    /// # Errors
    /// [`InvalidTraceParent`] if it breaks the rules of version 00, or is of another version.
    pub fn new(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(InvalidTraceParent);
        let (version, trace_id, span_id, flags) = (part()?, part()?, part()?, part()?);
        if version != "00" || parts.next().is_some() {
            return Err(InvalidTraceParent);
        }
        let [flags] = bytes(flags)?;
        Self::from_ids(bytes(trace_id)?, bytes(span_id)?, flags)
    }

    /// The span with this id in the trace with that one.
    ///
    /// # Errors
    /// [`InvalidTraceParent`] if an id is zero.
    pub fn from_ids(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Result<Self, InvalidTraceParent> {
        if trace_id == [0; 16] || span_id == [0; 8] {
            return Err(InvalidTraceParent);
        }
        Ok(Self { trace_id, span_id, flags })
    }

    /// What the job carries along, if it carries anything that can be read.
    #[must_use]
    pub fn of(job: &Job) -> Option<Self> {
        Self::new(job.metadata().get(TRACE_PARENT)?.as_str()?).ok()
    }

    /// The id of the trace.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span.
    #[must_use]
    pub const fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The flags; the lowest bit says that the trace may be recorded.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Reads exactly so many bytes, two digits each.
fn bytes<const N: usize>(digits: &str) -> Result<[u8; N], InvalidTraceParent> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.bytes().all(is_digit) {
        return Err(InvalidTraceParent);
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| InvalidTraceParent)?;
    }
    Ok(bytes)
}

/// A [`TraceCarrier`] as schedulers and servers share it.
#[derive(Clone)]
pub struct Traces(Arc<dyn TraceCarrier>);

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

impl Traces {
    /// Shares this carrier.
    pub fn new(carrier: impl TraceCarrier) -> Self {
        Self(Arc::new(carrier))
    }

    /// Has a job that is about to be created carry along what goes on now, unless its metadata says something already.
    pub(crate) fn carry(&self, metadata: &mut JobMetadata) {
        if metadata.contains_key(TRACE_PARENT) {
            return;
        }
        if let Some(parent) = caught(|| self.0.current()).flatten() {
            metadata.insert(TRACE_PARENT.to_owned(), parent.to_string().into());
        }
    }

    /// Links the span of a run to the span that the job was created in.
    pub fn link(&self, run: &tracing::Span, creator: &TraceParent) {
        caught(|| self.0.link(run, creator));
    }
}

fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(call));
    if result.is_err() {
        tracing::error!("a trace carrier panicked and was passed over");
    }
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_parent_is_written_as_it_was_read() {
        let parent = TraceParent::new(TEXT).unwrap();

        assert_eq!(parent.to_string(), TEXT);
        assert_eq!(parent.trace_id()[..2], [0x0a, 0xf7]);
        assert_eq!((parent.span_id()[7], parent.flags()), (0x31, 1));
    }

    #[test]
    fn texts_that_break_a_rule_are_no_trace_parents() {
        for text in [
            String::new(),
            TEXT.replace("00-", "01-"),
            TEXT.to_uppercase(),
            format!("{TEXT}-00"),
            TEXT.replace("0af7", "+af7"),
            TEXT.replace("-01", "-1"),
            TEXT.replace("-01", "-é"),
            TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            TEXT.replace("b7ad6b7169203331", &"0".repeat(16)),
        ] {
            assert_eq!(TraceParent::new(&text), Err(InvalidTraceParent), "{text}");
        }
    }
}
