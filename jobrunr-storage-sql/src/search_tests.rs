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

    let places: Vec<usize> = sql
        .split('$')
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap())
        .collect();
    assert_eq!(places, (1..=values.len()).collect::<Vec<_>>(), "{sql}");
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
