//! Sorted sets of jobs by group and type, so that jobs of other groups and types cost nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use crate::ids::JobId;
use crate::names::JobSignature;
use crate::storage::SignatureSelection;

/// A selection of job types, prepared for being asked often.
pub(super) enum Wanted<'a> {
    All,
    Only(HashSet<&'a JobSignature>),
    Except(HashSet<&'a JobSignature>),
}

impl Wanted<'_> {
    pub(super) fn contains(&self, signature: &JobSignature) -> bool {
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

/// One sorted set a group (a queue, a state) and job type.
#[derive(Debug, PartialEq)]
pub(super) struct Lanes<G: Hash + Eq, K> {
    groups: HashMap<G, HashMap<JobSignature, BTreeSet<K>>>,
}

impl<G: Hash + Eq, K> Default for Lanes<G, K> {
    fn default() -> Self {
        Self { groups: HashMap::new() }
    }
}

impl<G: Hash + Eq + Clone, K: Ord> Lanes<G, K> {
    pub(super) fn insert(&mut self, group: &G, signature: &JobSignature, key: K) {
        if let Some(lane) = self.groups.get_mut(group).and_then(|lanes| lanes.get_mut(signature)) {
            lane.insert(key);
        } else {
            let lanes = self.groups.entry(group.clone()).or_default();
            lanes.insert(signature.clone(), BTreeSet::from([key]));
        }
    }

    /// Removes a key; lanes and groups that become empty go too, so that only what is there is ever looked at.
    pub(super) fn remove(&mut self, group: &G, signature: &JobSignature, key: &K) {
        let Some(lanes) = self.groups.get_mut(group) else { return };
        let Some(lane) = lanes.get_mut(signature) else { return };
        lane.remove(key);
        if lane.is_empty() {
            lanes.remove(signature);
            if lanes.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// The lanes of the wanted types in this group.
    pub(super) fn of<'a>(&'a self, group: &G, wanted: &Wanted<'_>) -> Vec<&'a BTreeSet<K>> {
        let Some(lanes) = self.groups.get(group) else { return Vec::new() };
        match wanted {
            Wanted::All => lanes.values().collect(),
            Wanted::Only(wanted) => wanted.iter().filter_map(|signature| lanes.get(*signature)).collect(),
            Wanted::Except(unwanted) => {
                let wanted = lanes.iter().filter(|(signature, _)| !unwanted.contains(signature));
                wanted.map(|(_, lane)| lane).collect()
            }
        }
    }

    /// The lanes of the wanted types in all groups.
    pub(super) fn of_all<'a>(&'a self, wanted: &Wanted<'_>) -> Vec<&'a BTreeSet<K>> {
        self.groups.keys().flat_map(|group| self.of(group, wanted)).collect()
    }

    /// The types of the lanes in this group.
    pub(super) fn signatures(&self, group: &G) -> impl Iterator<Item = &JobSignature> {
        self.groups.get(group).into_iter().flat_map(HashMap::keys)
    }
}

/// The ids of the jobs that have something in common, such as a label.
#[derive(Debug, PartialEq)]
pub(super) struct Postings<K: Hash + Eq> {
    jobs: HashMap<K, BTreeSet<JobId>>,
}

impl<K: Hash + Eq> Default for Postings<K> {
    fn default() -> Self {
        Self { jobs: HashMap::new() }
    }
}

impl<K: Hash + Eq> Postings<K> {
    pub(super) fn insert(&mut self, key: K, id: JobId) {
        self.jobs.entry(key).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, key: &K, id: JobId) {
        if let Some(ids) = self.jobs.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.jobs.remove(key);
            }
        }
    }

    pub(super) fn of<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&BTreeSet<JobId>>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.jobs.get(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(text: &str) -> JobSignature {
        text.parse().unwrap()
    }

    #[test]
    fn lanes_are_found_by_every_kind_of_selection() {
        let mut lanes = Lanes::default();
        for (name, key) in [("a", 1), ("b", 2), ("c", 3)] {
            lanes.insert(&"queue", &signature(name), key);
        }
        let found = |selection: &SignatureSelection| {
            let lanes = lanes.of(&"queue", &Wanted::from(selection));
            lanes.into_iter().flatten().copied().collect::<BTreeSet<_>>()
        };

        assert_eq!(found(&SignatureSelection::All), [1, 2, 3].into());
        let twice = vec![signature("a"), signature("a"), signature("x")];
        assert_eq!(found(&SignatureSelection::Only(twice.clone())), [1].into());
        assert_eq!(found(&SignatureSelection::Except(twice)), [2, 3].into());
        assert_eq!(found(&SignatureSelection::Only(vec![])), [].into());
    }

    #[test]
    fn a_type_named_twice_is_one_lane() {
        let mut lanes = Lanes::default();
        lanes.insert(&"queue", &signature("a"), 1);
        let twice = SignatureSelection::Only(vec![signature("a"), signature("a")]);

        assert_eq!(lanes.of(&"queue", &Wanted::from(&twice)).len(), 1);
    }

    #[test]
    fn what_becomes_empty_is_dropped() {
        let mut lanes = Lanes::default();
        lanes.insert(&"queue", &signature("a"), 1);

        lanes.remove(&"queue", &signature("a"), &1);

        assert!(lanes.groups.is_empty());
    }
}
