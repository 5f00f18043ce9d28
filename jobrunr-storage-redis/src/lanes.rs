//! Lanes: the jobs of one queue and one type. Each pair has a number for ever, which this process remembers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jobrunr_core::storage::SignatureSelection;
use jobrunr_core::{JobSignature, QueueName};
use redis::cmd;

use crate::calls::Call;
use crate::error::Failed;

/// All lanes known so far.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_number: HashMap<String, (QueueName, JobSignature)>,
    /// What tells these numbers from those after all data were lost.
    era: String,
    /// How many fields the hash had.
    fields: usize,
}

impl Lanes {
    fn of(mut stored: HashMap<String, String>) -> Self {
        let fields = stored.len();
        let era = stored.remove("").unwrap_or_default();
        let read = |(name, number): (String, String)| {
            let (queue, signature) = name.split_once('\n')?;
            Some((number, (QueueName::new(queue).ok()?, JobSignature::new(signature).ok()?)))
        };
        Self { by_number: stored.into_iter().filter_map(read).collect(), era, fields }
    }

    pub(crate) fn find(&self, number: &str) -> Option<&(QueueName, JobSignature)> {
        self.by_number.get(number)
    }

    /// What tells whether these are still all lanes there are: era, and number of fields.
    pub(crate) fn state(&self) -> (&str, usize) {
        (&self.era, self.fields)
    }

    /// The lanes of these queues (or of all) and types.
    pub(crate) fn numbers<'l>(
        &'l self,
        queue: Option<&QueueName>,
        wanted: &SignatureSet<'_>,
    ) -> impl Iterator<Item = &'l str> {
        let fits = move |lane: &(QueueName, JobSignature)| {
            queue.is_none_or(|queue| lane.0 == *queue) && wanted.contains(&lane.1)
        };
        self.by_number.iter().filter(move |(_, lane)| fits(lane)).map(|(number, _)| number.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &(QueueName, JobSignature))> {
        self.by_number.iter().map(|(number, lane)| (number.as_str(), lane))
    }
}

/// A selection of types that may be long, prepared for being asked often.
#[derive(Debug)]
pub(crate) enum SignatureSet<'s> {
    All,
    Only(std::collections::HashSet<&'s str>),
    Except(std::collections::HashSet<&'s str>),
}

impl<'s> From<&'s SignatureSelection> for SignatureSet<'s> {
    fn from(selection: &'s SignatureSelection) -> Self {
        let set = |signatures: &'s [JobSignature]| signatures.iter().map(JobSignature::as_str).collect();
        match selection {
            SignatureSelection::All => Self::All,
            SignatureSelection::Only(wanted) => Self::Only(set(wanted)),
            SignatureSelection::Except(unwanted) => Self::Except(set(unwanted)),
        }
    }
}

impl SignatureSet<'_> {
    pub(crate) fn contains(&self, signature: &JobSignature) -> bool {
        match self {
            Self::All => true,
            Self::Only(wanted) => wanted.contains(signature.as_str()),
            Self::Except(unwanted) => !unwanted.contains(signature.as_str()),
        }
    }
}

/// The lanes as they were read last. There are only ever more of them.
#[derive(Debug, Default)]
pub(crate) struct LaneCache {
    lanes: Mutex<Arc<Lanes>>,
}

impl LaneCache {
    pub(crate) fn known(&self) -> Arc<Lanes> {
        Arc::clone(&self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The name of a lane in the hash of lanes; neither queues nor types may hold a line feed.
pub(crate) fn lane_name(queue: &QueueName, signature: &JobSignature) -> String {
    format!("{queue}\n{signature}")
}

impl Call<'_> {
    /// Reads all lanes anew.
    pub(crate) async fn load_lanes(&self) -> Result<Arc<Lanes>, Failed> {
        let inner = &self.storage.inner;
        let mut read = cmd("HGETALL");
        read.arg(inner.keys.lanes());
        let stored: HashMap<String, String> = self.read_one(&read).await?;
        let lanes = Arc::new(Lanes::of(stored));
        let mut known = inner.lanes.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Race: another call may have read more of them meanwhile; then a claim is told so, and reads them again.
        *known = Arc::clone(&lanes);
        drop(known);
        Ok(lanes)
    }

    /// Lanes among which are all of these.
    pub(crate) async fn lanes_with<'n>(
        &self,
        mut numbers: impl Iterator<Item = &'n str>,
    ) -> Result<Arc<Lanes>, Failed> {
        let known = self.storage.inner.lanes.known();
        if numbers.all(|number| known.find(number).is_some()) { Ok(known) } else { self.load_lanes().await }
    }
}
