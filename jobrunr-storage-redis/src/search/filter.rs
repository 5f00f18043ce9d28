//! Whether a job fits a query, by as little of it as possible.

use std::collections::HashSet;

use chrono::DateTime;
use jobrunr_core::storage::{JobQuery, OrderField};
use jobrunr_core::{JobSignature, JobState, QueueName, ServerId, StateName};
use redis::{Pipeline, Value, cmd};
use serde::Deserialize;

use super::Found;
use super::source::Plan;
use crate::calls::Call;
use crate::encoding::{Member, TIME, encode_time};
use crate::error::Failed;
use crate::head::Head;
use crate::jobs::lines_of;
use crate::lanes::SignatureSet;

/// The conditions of a query, prepared for being asked of many jobs.
pub(crate) struct Filter<'q> {
    query: &'q JobQuery,
    signatures: SignatureSet<'q>,
    live: Option<HashSet<ServerId>>,
}

impl<'q> Filter<'q> {
    pub(super) fn new(query: &'q JobQuery) -> Self {
        Self {
            query,
            signatures: SignatureSet::from(&query.signatures),
            live: query.server_not_in.as_ref().map(|live| live.iter().copied().collect()),
        }
    }

    pub(super) fn fits_state(&self, state: StateName) -> bool {
        self.query.states.is_empty() || self.query.states.contains(&state)
    }

    pub(super) fn fits_lane(&self, (queue, signature): &(QueueName, JobSignature)) -> bool {
        self.query.queue.as_ref().is_none_or(|wanted| wanted == queue) && self.signatures.contains(signature)
    }

    /// Whether there are no conditions but those on state, queue and type.
    pub(super) fn is_by_lane(&self) -> bool {
        self.has_only_state_and(OrderField::CreatedAt) && !self.query.created.is_bounded()
    }

    /// Whether there are no conditions but those on state, queue, type and the window of this instant.
    pub(super) fn has_only_state_and(&self, field: OrderField) -> bool {
        let JobQuery {
            labels,
            name_contains: None,
            recurring_job_id: None,
            server_id: None,
            server_not_in: None,
            awaited_job_id: None,
            created,
            updated,
            scheduled,
            error_contains: None,
            ..
        } = self.query
        else {
            return false;
        };
        let others = [
            (OrderField::CreatedAt, created),
            (OrderField::UpdatedAt, updated),
            (OrderField::ScheduledAt, scheduled),
        ];
        labels.is_empty() && others.iter().all(|(of, window)| *of == field || !window.is_bounded())
    }

    fn fits_head(&self, head: &Head) -> bool {
        let query = self.query;
        self.fits_state(head.state)
            && query.server_id.is_none_or(|id| head.server_id == Some(id))
            && self.live.as_ref().is_none_or(|live| head.server_id.is_some_and(|id| !live.contains(&id)))
            && query
                .awaited_job_id
                .is_none_or(|id| head.state == StateName::Awaiting && head.awaited_job_id == Some(id))
            && query.created.contains(head.created_at)
            && query.updated.contains(head.updated_at)
            && (!query.scheduled.is_bounded()
                || head.scheduled_at.is_some_and(|at| query.scheduled.contains(at)))
    }

    fn fits_texts(&self, texts: &Texts) -> bool {
        let query = self.query;
        let has_label = |label: &String| texts.labels.split('\n').any(|of_job| of_job == label);
        // No labels are one empty text, which is no label, but which somebody may ask for.
        (query.labels.is_empty() || (!texts.labels.is_empty() && query.labels.iter().all(has_label)))
            && query
                .recurring_job_id
                .as_ref()
                .is_none_or(|id| texts.recurring.as_deref() == Some(id.as_str()))
            && query.name_contains.as_ref().is_none_or(|text| contains(&texts.name(), text))
    }
}

/// What is looked into only where a query asks for it.
struct Texts {
    defined: String,
    labels: String,
    recurring: Option<String>,
}

impl Texts {
    fn name(&self) -> String {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let definition = lines_of(&self.defined).map_or("", |(definition, _, _)| definition);
        serde_json::from_str(definition).map_or_else(|_| String::new(), |Named { name }| name)
    }
}

/// Whether `text` occurs in `whole`, ASCII letters matching in either case.
fn contains(whole: &str, text: &str) -> bool {
    // Windows of no bytes do not exist.
    text.is_empty()
        || whole.as_bytes().windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
}

fn place(head: &Head, field: OrderField, id: &str) -> String {
    let instant = match field {
        OrderField::CreatedAt => head.created_at,
        OrderField::UpdatedAt => head.updated_at,
        OrderField::ScheduledAt => head.scheduled_at.unwrap_or(DateTime::UNIX_EPOCH),
    };
    format!("{}{id}", encode_time(instant))
}

impl Call<'_> {
    /// Those of a page that fit, in the same order.
    pub(super) async fn fitting(
        &self,
        page: Vec<Member>,
        filter: &Filter<'_>,
        plan: &Plan,
    ) -> Result<Vec<Found>, Failed> {
        let lanes = self.lanes_with(page.iter().map(Member::lane)).await?;
        let in_lane = |member: &Member| lanes.find(member.lane()).is_some_and(|lane| filter.fits_lane(lane));
        let members: Vec<Member> = page.into_iter().filter(in_lane).collect();
        if plan.is_exact && plan.is_ordered {
            let found = |member: Member| Found { place: member.place().to_owned(), member };
            return Ok(members.into_iter().map(found).collect());
        }
        let fitting = self.fitting_heads(members, filter).await?;
        let fitting = self.with_fitting_errors(fitting, filter).await?;
        let field = filter.query.order.field;
        let found =
            |(member, head): (Member, Head)| Found { place: place(&head, field, member.id()), member };
        Ok(fitting.into_iter().map(found).collect())
    }

    /// Those whose heads, labels and names fit.
    async fn fitting_heads(
        &self,
        members: Vec<Member>,
        filter: &Filter<'_>,
    ) -> Result<Vec<(Member, Head)>, Failed> {
        let keys = &self.storage.inner.keys;
        let query = filter.query;
        let needs_texts =
            !query.labels.is_empty() || query.recurring_job_id.is_some() || query.name_contains.is_some();
        let mut read = Pipeline::with_capacity(members.len());
        for member in &members {
            let mut one = cmd("HMGET");
            one.arg(keys.job(member.id())).arg("h");
            if needs_texts {
                one.arg("b").arg("r").arg("d");
            }
            read.add_command(one);
        }
        let stored: Vec<Vec<Value>> = self.read_all(&read).await?;
        let mut fitting = Vec::with_capacity(members.len());
        for (member, stored) in members.into_iter().zip(stored) {
            let mut stored = stored.into_iter().map(redis::from_redis_value::<Option<Vec<u8>>>);
            let mut next = || stored.next().and_then(Result::ok).flatten();
            let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            // Race: it may be gone by now.
            let Some(head) = text(next()).and_then(|head| Head::parse(&head)) else { continue };
            let texts = Texts {
                labels: text(next()).unwrap_or_default(),
                recurring: text(next()),
                defined: text(next()).unwrap_or_default(),
            };
            if filter.fits_head(&head) && (!needs_texts || filter.fits_texts(&texts)) {
                fitting.push((member, head));
            }
        }
        Ok(fitting)
    }

    /// Those whose last failure fits.
    async fn with_fitting_errors(
        &self,
        found: Vec<(Member, Head)>,
        filter: &Filter<'_>,
    ) -> Result<Vec<(Member, Head)>, Failed> {
        let Some(text) = &filter.query.error_contains else { return Ok(found) };
        let failed: Vec<_> = found
            .into_iter()
            .filter_map(|(member, head)| head.failure.map(|at| (member, head, at)))
            .collect();
        let mut read = Pipeline::with_capacity(failed.len());
        for (member, _, failure) in &failed {
            let mut one = cmd("HGET");
            one.arg(self.storage.inner.keys.job(member.id()));
            // The first entry is in `d`.
            if *failure == 0 {
                one.arg("d")
            } else {
                one.arg(*failure)
            };
            read.add_command(one);
        }
        let entries: Vec<Option<Vec<u8>>> = self.read_all(&read).await?;
        let has_text = |entry: &str| {
            let state = entry.get(TIME..).and_then(|state| serde_json::from_str(state).ok());
            matches!(state, Some(JobState::Failed(failure)) if contains(&failure.message, text))
        };
        let fitting = failed.into_iter().zip(entries).filter(|((_, _, failure), stored)| {
            let stored =
                stored.as_deref().and_then(|stored| std::str::from_utf8(stored).ok()).unwrap_or_default();
            has_text(if *failure == 0 { lines_of(stored).map_or("", |(_, first, _)| first) } else { stored })
        });
        Ok(fitting.map(|((member, head, _), _)| (member, head)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_as_it_stands_but_for_the_case_of_ascii_letters() {
        for (whole, text) in [("100% Sure", "% sURE"), ("a_b", "_"), ("größe", "öß"), ("x", ""), ("", "")]
        {
            assert!(contains(whole, text), "{text:?} in {whole:?}");
        }
        for (whole, text) in [("100 sure", "%"), ("ab", "a_b"), ("a", "ab"), ("b", "a")] {
            assert!(!contains(whole, text), "{text:?} in {whole:?}");
        }
    }
}
