//! Lanes: the jobs of one queue and one type wait in a line of their own, so that what is not wanted costs nothing.

use std::collections::HashSet;

use jobrunr_core::storage::{QueueSelection, SignatureSelection};
use jobrunr_core::{JobSignature, QueueName};

/// One queue and one job type; jobs name their lane by a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The queue.
    pub queue: QueueName,
    /// The type.
    pub signature: JobSignature,
}

/// A selection of job types, prepared for being asked often.
#[derive(Debug)]
pub enum Wanted<'a> {
    /// All there are.
    All,
    /// These only.
    Only(HashSet<&'a JobSignature>),
    /// All but these.
    Except(HashSet<&'a JobSignature>),
}

impl Wanted<'_> {
    /// Whether this type is wanted.
    #[must_use]
    pub fn contains(&self, signature: &JobSignature) -> bool {
        match self {
            Self::All => true,
            Self::Only(wanted) => wanted.contains(signature),
            Self::Except(unwanted) => !unwanted.contains(signature),
        }
    }
}

impl<'a> From<&'a SignatureSelection> for Wanted<'a> {
    fn from(selection: &'a SignatureSelection) -> Self {
        match selection {
            SignatureSelection::All => Self::All,
            SignatureSelection::Only(wanted) => Self::Only(wanted.iter().collect()),
            SignatureSelection::Except(unwanted) => Self::Except(unwanted.iter().collect()),
        }
    }
}

/// The lines a claim looks at one after the other, each made of lanes that are read as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOrder<N> {
    /// The numbers of the lanes, line by line.
    pub lines: Vec<Vec<N>>,
}

impl<N: Copy> QueueOrder<N> {
    /// Sorts those lanes that are wanted into lines, in the order of the queues asked for.
    pub fn of<'a>(
        lanes: impl Iterator<Item = (N, &'a Lane)> + Clone,
        queues: &QueueSelection,
        signatures: &SignatureSelection,
    ) -> Self {
        let wanted = Wanted::from(signatures);
        let wanted_lanes = lanes.filter(|(_, lane)| wanted.contains(&lane.signature));
        let lines = match queues {
            QueueSelection::All => vec![wanted_lanes.map(|(number, _)| number).collect()],
            QueueSelection::InOrder(queues) => queues
                .iter()
                .map(|queue| {
                    let of_queue = wanted_lanes.clone().filter(|(_, lane)| lane.queue == *queue);
                    of_queue.map(|(number, _)| number).collect()
                })
                .collect(),
        };
        Self { lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(queue: &str, signature: &str) -> Lane {
        Lane { queue: queue.parse().unwrap(), signature: signature.parse().unwrap() }
    }

    fn lanes() -> Vec<Lane> {
        vec![lane("high", "mail"), lane("low", "mail"), lane("low", "resize")]
    }

    fn lines(queues: &QueueSelection, signatures: &SignatureSelection) -> Vec<Vec<usize>> {
        QueueOrder::of(lanes().iter().enumerate(), queues, signatures).lines
    }

    #[test]
    fn all_queues_are_one_line() {
        assert_eq!(lines(&QueueSelection::All, &SignatureSelection::All), [vec![0, 1, 2]]);
    }

    #[test]
    fn queues_in_order_are_a_line_each() {
        let queues = QueueSelection::InOrder(vec!["low".parse().unwrap(), "high".parse().unwrap()]);

        assert_eq!(lines(&queues, &SignatureSelection::All), [vec![1, 2], vec![0]]);
    }

    #[test]
    fn lanes_of_unwanted_types_are_left_out() {
        let mail = vec!["mail".parse().unwrap()];

        assert_eq!(lines(&QueueSelection::All, &SignatureSelection::Only(mail.clone())), [vec![0, 1]]);
        assert_eq!(lines(&QueueSelection::All, &SignatureSelection::Except(mail)), [vec![2]]);
    }
}
