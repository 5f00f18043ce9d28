use jobrunr_core::JobId;
use jobrunr_core::storage::{JobCursor, JobOrder};

use super::*;

struct Numbered;

impl Dialect for Numbered {
    fn placeholder(&self, number: usize) -> String {
        format!("${number}")
    }

    fn job_key(&self) -> &'static str {
        "seq"
    }

    fn contains(&self, text: &str, placeholder: &str) -> String {
        format!("position(lower({placeholder}) in lower({text})) > 0")
    }

    fn is_one_of(&self, column: &str, placeholder: &str, _kind: ListKind) -> String {
        format!("{column} = ANY({placeholder})")
    }
}

fn list(query: &JobQuery) -> Search {
    render_list(query, &Numbered, &TablePrefix::new("app_").unwrap())
}

/// The numbers of the places of values, as they stand in the text.
fn places(sql: &str) -> Vec<usize> {
    let number = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse();
    sql.split('$').skip(1).map(|rest| number(rest).unwrap()).collect()
}

#[test]
fn a_query_without_conditions_has_no_where_clause() {
    let search = list(&JobQuery::all());

    assert_eq!(
        search.sql,
        "SELECT j.seq FROM app_jobrunr_job j ORDER BY j.created_at, j.id LIMIT $1 OFFSET $2"
    );
    assert_eq!(search.values, [Value::Integer(50), Value::Integer(0)]);
}

#[test]
fn hostile_values_are_bound_and_the_text_stays_the_same() {
    let with = |text: &str| list(&JobQuery::all().label(text).name_contains(text).error_contains(text));

    let (plain, hostile) = (with("plain"), with("'; DROP TABLE app_jobrunr_job; --"));

    assert_eq!(plain.sql, hostile.sql);
    assert_eq!(hostile.values[0], Value::Text("'; DROP TABLE app_jobrunr_job; --".to_owned()));
}

#[test]
fn conditions_alone_have_no_cursor_and_are_nothing_where_none_is_set() {
    let cursor = JobCursor { instant: chrono::DateTime::UNIX_EPOCH, id: JobId::new() };
    let query = JobQuery::in_state(StateName::Failed).name_contains("mail").after(cursor);

    let search = render_conditions(&query, &Numbered);

    assert_eq!(
        search.sql,
        "j.state = $1 AND EXISTS (SELECT 1 FROM {p}jobrunr_job_data d WHERE d.job = j.seq \
         AND position(lower($2) in lower(d.name)) > 0)"
    );
    assert_eq!(search.values, [Value::Integer(6), Value::Text("mail".to_owned())]);
    assert_eq!(render_conditions(&JobQuery::all().after(cursor), &Numbered).sql, "");
}

#[test]
fn every_place_has_its_value_in_the_order_of_the_text() {
    let id = JobId::new();
    let at = |micros| chrono::DateTime::from_timestamp_micros(micros).unwrap();
    let query = JobQuery::in_states([StateName::Enqueued, StateName::Failed])
        .label("a")
        .label("b")
        .queue("high".parse().unwrap())
        .signatures(SignatureSelection::Except(vec!["mail".parse().unwrap()]))
        .recurring_job_id("nightly".parse().unwrap())
        .server_id(jobrunr_core::ServerId::new())
        .server_not_in([])
        .awaited_job_id(id)
        .created(TimeWindow::between(at(1), at(2)))
        .updated(TimeWindow::from(at(3)))
        .scheduled(TimeWindow::before(at(4)))
        .name_contains("n")
        .error_contains("e")
        .order(JobOrder::descending(OrderField::UpdatedAt))
        .after(JobCursor { instant: at(5), id })
        .limit(7)
        .offset(8);

    let Search { sql, values } = list(&query);

    assert_eq!(places(&sql), (1..=values.len()).collect::<Vec<_>>(), "{sql}");
    assert!(sql.contains("(j.updated_at, j.id) < ("), "{sql}");
    assert!(sql.ends_with(&format!(
        "ORDER BY j.updated_at DESC, j.id DESC LIMIT ${} OFFSET ${}",
        values.len() - 1,
        values.len()
    )));
}

#[test]
fn order_and_page_do_not_matter_for_a_count() {
    let query = JobQuery::in_state(StateName::Failed).newest_first().offset(3).limit(1);

    let count = render_count(&query, &Numbered, &TablePrefix::default());

    assert_eq!(count.sql, "SELECT count(*) FROM jobrunr_job j WHERE j.state = $1");
    assert_eq!(count.values, [Value::Integer(6)]);
}

#[test]
fn a_page_by_update_is_merged_from_a_page_of_each_state() {
    let query = JobQuery::in_states([StateName::Failed, StateName::Succeeded, StateName::Failed])
        .updated(TimeWindow::before(chrono::DateTime::from_timestamp_micros(9).unwrap()))
        .order(JobOrder::descending(OrderField::UpdatedAt))
        .limit(7)
        .offset(8);

    let search = list(&query);

    assert_eq!(
        search.sql,
        "SELECT m.job FROM (\
         SELECT * FROM (SELECT j.seq AS job, j.updated_at AS instant, j.id AS id FROM app_jobrunr_job j \
         WHERE j.state = $1 AND j.updated_at < $2 ORDER BY j.updated_at DESC, j.id DESC LIMIT $3) s \
         UNION ALL \
         SELECT * FROM (SELECT j.seq AS job, j.updated_at AS instant, j.id AS id FROM app_jobrunr_job j \
         WHERE j.state = $4 AND j.updated_at < $5 ORDER BY j.updated_at DESC, j.id DESC LIMIT $6) s\
         ) m ORDER BY m.instant DESC, m.id DESC LIMIT $7 OFFSET $8"
    );
    assert_eq!(search.values, [5, 9, 15, 6, 9, 15, 7, 8].map(Value::Integer));
}

#[test]
fn a_page_by_update_of_all_states_is_merged_from_every_state() {
    let cursor = JobCursor { instant: chrono::DateTime::UNIX_EPOCH, id: JobId::new() };
    let query = JobQuery::all().order(JobOrder::ascending(OrderField::UpdatedAt)).after(cursor);

    let Search { sql, values } = list(&query);

    assert_eq!(sql.matches("WHERE j.state = $").count(), StateName::ALL.len(), "{sql}");
    assert_eq!(sql.matches("(j.updated_at, j.id) > ($").count(), StateName::ALL.len(), "{sql}");
    assert_eq!(places(&sql), (1..=values.len()).collect::<Vec<_>>(), "{sql}");
}

#[test]
fn what_has_another_order_or_condition_or_reaches_far_is_not_merged() {
    let by_update = || JobQuery::all().order(JobOrder::ascending(OrderField::UpdatedAt));
    let bounded = TimeWindow::from(chrono::DateTime::UNIX_EPOCH);
    assert!(list(&by_update().updated(bounded).limit(FARTHEST - 1).offset(1)).sql.contains("UNION"));

    for query in [
        JobQuery::all(),
        JobQuery::in_states([StateName::Failed; 2]).order(by_update().order),
        by_update().label("a"),
        by_update().queue("high".parse().unwrap()),
        by_update().recurring_job_id("nightly".parse().unwrap()),
        by_update().awaited_job_id(JobId::new()),
        by_update().created(bounded),
        by_update().scheduled(bounded),
        by_update().name_contains("n"),
        by_update().limit(FARTHEST).offset(1),
        by_update().limit(usize::MAX).offset(usize::MAX),
    ] {
        let sql = list(&query).sql;

        assert!(!sql.contains("UNION"), "{sql}");
    }
}
