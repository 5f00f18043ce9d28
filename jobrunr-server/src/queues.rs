//! Which queues a server serves, and which it asks first: always the same one, or by weight.

use fastrand::Rng;
use jobrunr_core::QueueName;
use jobrunr_core::storage::QueueSelection;

use crate::error::ServerError;

/// A queue to be served, with a weight or without: what
/// [`queues`](crate::BackgroundJobServerBuilder::queues) is given.
///
/// Made from a name, or from a name and a weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedQueue {
    name: String,
    weight: Option<u32>,
}

impl From<&str> for ServedQueue {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), weight: None }
    }
}

impl From<&String> for ServedQueue {
    fn from(name: &String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<String> for ServedQueue {
    fn from(name: String) -> Self {
        Self { name, weight: None }
    }
}

impl From<QueueName> for ServedQueue {
    fn from(name: QueueName) -> Self {
        Self { name: name.into(), weight: None }
    }
}

impl<N: Into<String>> From<(N, u32)> for ServedQueue {
    fn from((name, weight): (N, u32)) -> Self {
        Self { name: name.into(), weight: Some(weight) }
    }
}

/// The queues of a server, checked; none = all, as one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Queues {
    names: Vec<QueueName>,
    /// One a queue, or none at all: then the queues are asked in the order given.
    weights: Vec<u32>,
}

impl Queues {
    /// Checks the queues that were given. One that is named twice is served once, but cannot have two weights.
    pub(crate) fn new(given: &[ServedQueue]) -> Result<Self, ServerError> {
        let mut queues = Self::default();
        for ServedQueue { name, weight } in given {
            let name = QueueName::new(name)
                .map_err(|source| ServerError::InvalidName { option: "queues", source })?;
            if *weight == Some(0) {
                return Err(refused(format!("{name:?} with the weight 0"), "at least 1 for each queue"));
            }
            if !queues.names.contains(&name) {
                queues.names.push(name);
                queues.weights.extend(*weight);
            } else if weight.is_some() {
                return Err(refused(format!("{name:?} twice"), "one weight for each queue"));
            }
        }
        if queues.weights.is_empty() || queues.weights.len() == queues.names.len() {
            Ok(queues)
        } else {
            Err(refused("partly with weights".to_owned(), "with a weight for each queue, or for none"))
        }
    }

    /// The queues in the order given.
    pub(crate) fn names(&self) -> &[QueueName] {
        &self.names
    }

    /// Whether jobs of this queue are run.
    pub(crate) fn serves(&self, queue: &QueueName) -> bool {
        self.names.is_empty() || self.names.contains(queue)
    }

    /// What a claim asks for, as long as no weights say otherwise.
    pub(crate) fn in_order(&self) -> QueueSelection {
        if self.names.is_empty() { QueueSelection::All } else { QueueSelection::InOrder(self.names.clone()) }
    }

    /// What the next claim asks for, drawn by weight; `None` = what every claim asks for.
    ///
    /// Each queue comes first as often as its weight is of the sum of all, and of those left the next one likewise. So
    /// where all have jobs waiting, each gives up jobs by its weight in the long run; where one is empty, the claim takes
    /// from the others in the same call.
    pub(crate) fn draw(&self, random: &mut Rng) -> Option<QueueSelection> {
        if self.weights.is_empty() {
            return None;
        }
        // A race: each queue arrives after a time that is exponential with its weight as the rate.
        let mut arrivals: Vec<(f64, &QueueName)> = Vec::with_capacity(self.names.len());
        for (name, weight) in self.names.iter().zip(&self.weights) {
            let unit = 1.0 - random.f64();
            arrivals.push((-unit.ln() / f64::from(*weight), name));
        }
        arrivals.sort_by(|(earlier, _), (later, _)| earlier.total_cmp(later));
        Some(QueueSelection::InOrder(arrivals.into_iter().map(|(_, name)| name.clone()).collect()))
    }
}

fn refused(value: String, bound: &str) -> ServerError {
    ServerError::InvalidOption { option: "queues", value, bound: bound.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn queues<Q: Into<ServedQueue>>(given: impl IntoIterator<Item = Q>) -> Queues {
        Queues::new(&given.into_iter().map(Into::into).collect::<Vec<_>>()).unwrap()
    }

    fn orders(queues: &Queues, draws: u32) -> Vec<Vec<QueueName>> {
        let mut random = Rng::with_seed(7);
        let mut orders = Vec::new();
        for _ in 0..draws {
            let Some(QueueSelection::InOrder(order)) = queues.draw(&mut random) else {
                panic!("queues with weights are drawn");
            };
            orders.push(order);
        }
        orders
    }

    fn permille(count: u32, of: u32) -> u32 {
        (count * 1_000 + of / 2) / of
    }

    #[test]
    fn each_queue_is_asked_first_as_often_as_its_weight_says() {
        let queues = queues([("high", 5), ("middle", 3), ("low", 2)]);
        let mut first: HashMap<QueueName, u32> = HashMap::new();
        let mut second_after_high: HashMap<QueueName, u32> = HashMap::new();

        for order in orders(&queues, 100_000) {
            assert_eq!(order.len(), 3, "every queue is asked by every claim");
            if order[0] == "high" {
                *second_after_high.entry(order[1].clone()).or_default() += 1;
            }
            *first.entry(order[0].clone()).or_default() += 1;
        }

        for (queue, expected) in [("high", 500), ("middle", 300), ("low", 200)] {
            assert!(permille(first[queue], 100_000).abs_diff(expected) <= 5, "{queue}: {first:?}");
        }
        let of = first["high"];
        for (queue, expected) in [("middle", 600), ("low", 400)] {
            let share = permille(second_after_high[queue], of);
            assert!(share.abs_diff(expected) <= 7, "{queue} after high: {share} ‰");
        }
    }

    #[test]
    fn a_queue_with_a_hundredth_of_the_weight_waits_for_no_more_than_some_hundred_claims() {
        let queues = queues([("high", 99), ("low", 1)]);
        let (mut waits, mut longest) = (0, 0);

        for order in orders(&queues, 50_000) {
            waits = if order[0] == "low" { 0 } else { waits + 1 };
            longest = longest.max(waits);
        }

        assert!((100..2_000).contains(&longest), "it waited for {longest} claims");
    }

    #[test]
    fn queues_without_weights_are_never_drawn() {
        let queues = queues(["b", "a"]);

        assert_eq!(queues.draw(&mut Rng::with_seed(7)), None);
        assert_eq!(queues.in_order(), QueueSelection::InOrder(queues.names().to_vec()));
        assert_eq!(queues.names(), ["b", "a"]);
    }

    #[test]
    fn without_any_queue_given_all_are_served_as_one_line() {
        let queues = Queues::default();

        assert_eq!(queues.in_order(), QueueSelection::All);
        assert!(queues.serves(&QueueName::default()));
    }

    #[test]
    fn a_queue_named_twice_is_served_once() {
        assert_eq!(queues(["b", "a", "b"]).names(), ["b", "a"]);
    }

    #[test]
    fn weights_that_mean_nothing_are_refused() {
        let refusal = |given: &[ServedQueue]| Queues::new(given).unwrap_err().to_string();

        for (given, expected) in [
            (
                vec![("a", 0).into()],
                "the option `queues` is \"a\" with the weight 0, but it must be at least 1 for each queue",
            ),
            (
                vec![("a", 1).into(), ("a", 2).into()],
                "the option `queues` is \"a\" twice, but it must be one weight for each queue",
            ),
            (
                vec!["a".into(), ("b", 2).into()],
                "the option `queues` is partly with weights, but it must be with a weight for each queue, or for none",
            ),
        ] {
            assert_eq!(refusal(&given), expected);
        }
    }
}
