//! Finding jobs by what they are: how a query becomes a filter and an order.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use jobrunr_core::storage::{
    JobCounts, JobQuery, JobSearch, OrderField, SignatureSelection, StorageError, TimeWindow,
};
use jobrunr_core::{Job, JobSignature, StateName};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReadConcern;

use crate::MongoStorage;
use crate::documents::{
    JobDocument, awaited_tag, from_state_number, label_tag, lane, micros, recurring_tag, split_lane,
    state_number, uuid,
};
use crate::jobs::{SUCCESSES, count_field, read_job};

#[async_trait]
impl JobSearch for MongoStorage {
    async fn list_jobs(&self, query: &JobQuery) -> Result<Vec<Job>, StorageError> {
        const OPERATION: &str = "list jobs";
        let _open = self.begin(OPERATION)?;
        if query.effective_limit() == 0 {
            return Ok(Vec::new());
        }
        let jobs = self.jobs::<JobDocument>();
        let direction = if query.order.descending { -1 } else { 1 };
        let mut sort = Document::new();
        sort.insert(order_field(query.order.field), direction);
        sort.insert("_id", direction);
        let listed = async {
            let mut cursor = jobs
                .find(list_filter(query))
                .projection(doc! { "metadata": 0 })
                .sort(sort)
                .skip(u64::try_from(query.offset).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs()))
                .limit(i64::try_from(query.effective_limit()).unwrap_or(i64::MAX))
                .batch_size(u32::try_from(query.effective_limit()).unwrap_or(u32::MAX).min(10_000))
                .allow_disk_use(true)
                .await?;
            let mut read = Vec::new();
            while cursor.advance().await? {
                read.push(read_job(&cursor));
            }
            Ok(read)
        };
        let read = self.limited(OPERATION, listed).await?;
        let mut found = Vec::with_capacity(read.len());
        // Race: a job that moves on in the order while it is read would come twice.
        let mut seen = HashSet::with_capacity(read.len());
        for job in read {
            match job {
                Ok(job) if seen.insert(job.id()) => found.push(job),
                Ok(_) => {}
                Err((id, unreadable)) => self.report_unreadable(id, &unreadable),
            }
        }
        Ok(found)
    }

    async fn count_jobs(&self, query: &JobQuery) -> Result<u64, StorageError> {
        let jobs = self.jobs::<Document>();
        self.call("count jobs", jobs.count_documents(filter(query)).into_future()).await
    }

    async fn job_counts(&self) -> Result<JobCounts, StorageError> {
        const OPERATION: &str = "count jobs";
        let _open = self.begin(OPERATION)?;
        let final_states = StateName::ALL.into_iter().filter(|state| state.is_final());
        let fields: Vec<String> = final_states.map(count_field).chain([SUCCESSES.to_owned()]).collect();
        let mut sums = doc! { "_id": Bson::Null };
        for field in &fields {
            sums.insert(field, doc! { "$sum": format!("${field}") });
        }
        let waiting: Vec<i32> =
            StateName::ALL.into_iter().filter(|state| !state.is_final()).map(state_number).collect();
        let pipeline = [
            doc! { "$group": sums },
            doc! { "$unionWith": {
                "coll": &self.inner.collections.jobs,
                "pipeline": [
                    { "$match": { "state": { "$in": waiting } } },
                    { "$group": { "_id": "$state", "jobs": { "$sum": 1_i64 } } },
                ],
            } },
        ];
        let counted = self.collection::<Document>(&self.inner.collections.counts);
        let mut counted = counted.aggregate(pipeline);
        if self.inner.has_transactions {
            // All as of one instant: a job that changes its state is counted in one of them.
            counted = counted.read_concern(ReadConcern::snapshot());
        }
        let counted = async { counted.await?.try_collect::<Vec<Document>>().await };
        let mut counts = JobCounts::default();
        for document in self.limited(OPERATION, counted).await? {
            let number = |field: &str| {
                let value = document
                    .get(field)
                    .and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from)));
                value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
            };
            if let Some(state) = document.get_i32("_id").ok().and_then(from_state_number) {
                counts.set(state, number("jobs"));
            } else {
                for state in StateName::ALL.into_iter().filter(|state| state.is_final()) {
                    counts.set(state, number(&count_field(state)));
                }
                counts.succeeded_all_time = number(SUCCESSES);
            }
        }
        Ok(counts)
    }

    async fn list_signatures(&self, states: &[StateName]) -> Result<Vec<JobSignature>, StorageError> {
        const OPERATION: &str = "list job types";
        let _open = self.begin(OPERATION)?;
        let jobs = self.jobs::<Document>();
        let mut signatures = BTreeSet::new();
        let states: BTreeSet<StateName> = states.iter().copied().collect();
        for state in states {
            let lanes = jobs.distinct("lane", doc! { "state": state_number(state) });
            let lanes = self.limited(OPERATION, lanes.into_future()).await?;
            let lanes = lanes.iter().filter_map(Bson::as_str).filter_map(split_lane);
            signatures.extend(lanes.filter_map(|(_, signature)| signature.parse::<JobSignature>().ok()));
        }
        Ok(signatures.into_iter().collect())
    }
}

fn order_field(field: OrderField) -> &'static str {
    match field {
        OrderField::CreatedAt => "created",
        OrderField::UpdatedAt => "updated",
        OrderField::ScheduledAt => "scheduled",
    }
}

/// The jobs that fit and come after the cursor.
fn list_filter(query: &JobQuery) -> Document {
    let mut fits = filter(query);
    if let Some(cursor) = query.after {
        let field = order_field(query.order.field);
        let (beyond, from) = if query.order.descending { ("$lt", "$lte") } else { ("$gt", "$gte") };
        let instant = micros(cursor.instant);
        require(&mut fits, doc! { field: { from: instant } });
        let later = doc! { field: { beyond: instant } };
        require(&mut fits, doc! { "$or": [later, { "_id": { beyond: uuid(cursor.id) } }] });
    }
    fits
}

/// Adds a condition; several may be about one field.
fn require(filter: &mut Document, condition: Document) {
    match filter.get_mut("$and") {
        Some(Bson::Array(conditions)) => conditions.push(condition.into()),
        _ => {
            filter.insert("$and", vec![condition]);
        }
    }
}

/// The jobs that fit a query.
fn filter(query: &JobQuery) -> Document {
    let mut fits = Document::new();
    match query.states.as_slice() {
        [] if query.order.field == OrderField::UpdatedAt => {
            // The index by state and time serves all states at once if they are named.
            require(&mut fits, doc! { "state": { "$in": StateName::ALL.map(state_number).to_vec() } });
        }
        [] => {}
        [state] => require(&mut fits, doc! { "state": state_number(*state) }),
        states => {
            let states: Vec<i32> = states.iter().copied().map(state_number).collect();
            require(&mut fits, doc! { "state": { "$in": states } });
        }
    }
    for label in &query.labels {
        require(&mut fits, doc! { "tags": label_tag(label) });
    }
    of_lane(&mut fits, query);
    if let Some(id) = &query.recurring_job_id {
        require(&mut fits, doc! { "tags": recurring_tag(id) });
    }
    if let Some(id) = query.server_id {
        require(&mut fits, doc! { "server": uuid(id) });
    }
    if let Some(live) = &query.server_not_in {
        let live: Vec<Bson> = live.iter().map(|id| Bson::from(uuid(*id))).collect();
        require(&mut fits, doc! { "server": { "$exists": true, "$nin": live } });
    }
    if let Some(id) = query.awaited_job_id {
        require(&mut fits, doc! { "tags": awaited_tag(id) });
    }
    window(&mut fits, "created", query.created);
    window(&mut fits, "updated", query.updated);
    window(&mut fits, "scheduled", query.scheduled);
    if query.scheduled.is_bounded() {
        require(&mut fits, doc! { "timed": true });
    }
    if let Some(text) = &query.name_contains {
        require(&mut fits, contains("$name", text));
    }
    if let Some(text) = &query.error_contains {
        require(&mut fits, doc! { "error": { "$exists": true } });
        require(&mut fits, contains("$error", text));
    }
    fits
}

/// Queue and type, which are one text.
fn of_lane(fits: &mut Document, query: &JobQuery) {
    let wanted = |signatures: &[JobSignature]| -> Option<Vec<String>> {
        let queue = query.queue.as_ref()?;
        Some(signatures.iter().map(|signature| lane(queue, signature)).collect())
    };
    let of_types = |signatures: &[JobSignature]| {
        let types: Vec<Bson> = signatures.iter().map(|signature| signature.as_str().into()).collect();
        // What follows the first space.
        let start = doc! { "$add": [{ "$indexOfBytes": ["$lane", " "] }, 1] };
        let length = doc! { "$strLenBytes": "$lane" };
        let signature = doc! { "$substrBytes": ["$lane", start, length] };
        doc! { "$in": [signature, { "$literal": types }] }
    };
    if let Some(queue) = &query.queue {
        // Right after the space comes the exclamation mark.
        require(fits, doc! { "lane": { "$gte": format!("{queue} "), "$lt": format!("{queue}!") } });
    }
    match &query.signatures {
        SignatureSelection::All => {}
        SignatureSelection::Only(signatures) => match wanted(signatures) {
            Some(lanes) => require(fits, doc! { "lane": { "$in": lanes } }),
            None => require(fits, doc! { "$expr": of_types(signatures) }),
        },
        SignatureSelection::Except(signatures) => match wanted(signatures) {
            Some(lanes) => require(fits, doc! { "lane": { "$nin": lanes } }),
            None => require(fits, doc! { "$expr": { "$not": [of_types(signatures)] } }),
        },
    }
}

fn window(fits: &mut Document, field: &str, window: TimeWindow) {
    if let Some(from) = window.from {
        require(fits, doc! { field: { "$gte": micros(from) } });
    }
    if let Some(before) = window.before {
        require(fits, doc! { field: { "$lt": micros(before) } });
    }
}

/// That a text occurs in a field, letters of ASCII in either case; a pattern would take some characters for others.
fn contains(field: &str, text: &str) -> Document {
    let needle = text.to_ascii_lowercase();
    let place = doc! { "$indexOfBytes": [{ "$toLower": field }, { "$literal": needle }] };
    doc! { "$expr": { "$gte": [place, 0] } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_conditions_on_one_field_all_hold() {
        let query = JobQuery::in_state(StateName::Failed).label("a").label("b");

        let conditions = filter(&query).get_array("$and").unwrap().len();

        assert_eq!(conditions, 3);
        assert!(filter(&JobQuery::all()).is_empty());
    }
}
