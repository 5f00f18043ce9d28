//! The grammar of cron expressions: checks every field and rewrites it into what `croner` accepts.
//!
//! Why not hand the text to `croner` at once: it refuses `a/s`, full names and `@midnight`, it drops empty list
//! items, takes names in any field and a lone `L` as a weekday (which never matches), and its errors do not say
//! which field is meant. What a day matches (`L`, `W`, `#`) stays its business; see `local_time` for zones.

use croner::parser::{CronParser, Seconds, Year};

use super::ScheduleError;

/// What the grammar makes of a text.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) pattern: croner::Cron,
    pub(super) repeated_hour: RepeatedHour,
}

/// How a schedule treats local times that occur twice because the clock is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RepeatedHour {
    /// In the first pass only: the schedule names times of the day.
    RunsOnce,
    /// In both passes: the schedule beats time, and must have no hole.
    RunsTwice,
}

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

#[derive(Debug)]
struct Field {
    kind: Kind,
    name: &'static str,
    min: u32,
    max: u32,
    /// Full names in the order of their values, starting at `min`.
    names: &'static [&'static str],
    advice: &'static str,
}

const MONTHS: [&str; 12] = [
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
];
const WEEKDAYS: [&str; 7] = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];

/// The last value of `*` and `a/s` for weekdays; 7 is Sunday once more.
const SATURDAY: u32 = 6;
const SUNDAY_AGAIN: u32 = 7;

const FIELDS: [Field; 6] = [
    Field {
        kind: Kind::Second,
        name: "second",
        min: 0,
        max: 59,
        names: &[],
        advice: "write `*`, a number from 0 to 59, a range `0-10`, a list `0,30` or a step `*/15`",
    },
    Field {
        kind: Kind::Minute,
        name: "minute",
        min: 0,
        max: 59,
        names: &[],
        advice: "write `*`, a number from 0 to 59, a range `0-10`, a list `0,30` or a step `*/15`",
    },
    Field {
        kind: Kind::Hour,
        name: "hour",
        min: 0,
        max: 23,
        names: &[],
        advice: "write `*`, a number from 0 to 23, a range `9-17`, a list `8,20` or a step `*/6`",
    },
    Field {
        kind: Kind::DayOfMonth,
        name: "day-of-month",
        min: 1,
        max: 31,
        names: &[],
        advice: "write `*`, a number from 1 to 31, a range `1-7`, a list `1,15`, a step `*/2`, `L` for the last \
                 day, `15W` for the weekday nearest to the 15th or `LW` for the last weekday",
    },
    Field {
        kind: Kind::Month,
        name: "month",
        min: 1,
        max: 12,
        names: &MONTHS,
        advice: "write `*`, a number from 1 to 12, a name `JAN` or `January`, a range `4-9`, a list `1,7` or a \
                 step `*/3`",
    },
    Field {
        kind: Kind::DayOfWeek,
        name: "day-of-week",
        min: 0,
        max: 7,
        names: &WEEKDAYS,
        advice: "write `*`, a number from 0 (Sunday) to 7 (Sunday again), a name `MON` or `Monday`, a range \
                 `MON-FRI`, a list `SAT,SUN`, `5L` for the last Friday or `MON#1` for the first Monday",
    },
];

/// What is wrong and what to write; the caller adds the expression.
struct Fault {
    problem: String,
    advice: String,
}

/// Reads `text` as a cron expression.
///
/// # Errors
///
/// [`ScheduleError::InvalidExpression`].
pub(super) fn parse(text: &str) -> Result<Expression, ScheduleError> {
    read(text).map_err(|fault| ScheduleError::InvalidExpression {
        expression: text.to_owned(),
        problem: fault.problem,
        advice: fault.advice,
    })
}

fn read(text: &str) -> Result<Expression, Fault> {
    let expanded = expand_macro(text)?;
    let written: Vec<&str> = expanded.split_whitespace().collect();
    let fields: [&str; 6] = match written[..] {
        [minute, hour, day, month, weekday] => ["0", minute, hour, day, month, weekday],
        [second, minute, hour, day, month, weekday] => [second, minute, hour, day, month, weekday],
        _ => return Err(wrong_field_count(written.len())),
    };

    let mut rewritten = Vec::with_capacity(fields.len());
    for (field, value) in FIELDS.iter().zip(fields) {
        rewritten.push(field.rewrite(value)?);
    }
    let parser = CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build();
    let pattern = parser.parse(&rewritten.join(" ")).map_err(|error| Fault {
        problem: error.to_string(),
        advice: "write five fields such as `30 8 * * MON-FRI`".to_owned(),
    })?;

    let beats = is_counted(fields[0]) || is_counted(fields[1]) || pattern.pattern.hours.values().len() == 24;
    let repeated_hour = if beats { RepeatedHour::RunsTwice } else { RepeatedHour::RunsOnce };
    Ok(Expression { pattern, repeated_hour })
}

/// The fields of a valid expression as they are written, macros expanded.
pub(super) fn fields(text: &str) -> impl Iterator<Item = &str> {
    expand_macro(text).unwrap_or(text).split_whitespace()
}

fn expand_macro(text: &str) -> Result<&str, Fault> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    match MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((_, fields)) => Ok(fields),
        None => Err(Fault {
            problem: format!("there is no macro `{text}`"),
            advice: format!("write one of {}", MACROS.map(|(name, _)| name).join(", ")),
        }),
    }
}

fn wrong_field_count(count: usize) -> Fault {
    Fault {
        problem: match count {
            0 => "it is empty".to_owned(),
            1 => "it has 1 field".to_owned(),
            count => format!("it has {count} fields"),
        },
        advice: "write minute, hour, day of month, month and day of week, with seconds in front if needed: \
                 `30 8 * * MON-FRI`"
            .to_owned(),
    }
}

/// Whether a second or minute field is more than a list of plain numbers.
fn is_counted(value: &str) -> bool {
    value.contains(['*', '-', '/'])
}

impl Field {
    fn rewrite(&self, value: &str) -> Result<String, Fault> {
        let is_day = matches!(self.kind, Kind::DayOfMonth | Kind::DayOfWeek);
        // Stepping by one leaves the field unrestricted, which matters for the union of the two day fields.
        if value == "*" || value == "*/1" || (is_day && value == "?") {
            return Ok("*".to_owned());
        }
        let items = value.split(',').map(|item| self.rewrite_item(item)).collect::<Result<Vec<_>, _>>()?;
        // `croner` keeps one flag for both, so the pair would silently lose `L`.
        if items.iter().any(|item| item == "L") && items.iter().any(|item| item == "LW") {
            return Err(self.fault("cannot list both `L` and `LW`"));
        }
        if items.len() > 1 && items.iter().any(|item| item == "*") {
            return Err(self.fault("lists `*`, which already means every value, beside others"));
        }
        Ok(items.join(","))
    }

    fn rewrite_item(&self, item: &str) -> Result<String, Fault> {
        if item.is_empty() {
            return Err(self.fault("has an empty item"));
        }
        if item == "*" {
            return Ok("*".to_owned());
        }
        if let Some(special) = self.rewrite_special(item)? {
            return Ok(special);
        }
        match item.split_once('/') {
            Some((range, step)) => self.rewrite_step(item, range, step),
            None => match item.split_once('-') {
                Some((first, last)) => {
                    let (first, last) = self.range(item, first, last)?;
                    Ok(format!("{first}-{last}"))
                }
                None => Ok(self.value(item)?.to_string()),
            },
        }
    }

    /// `L`, `LW` and `15W` among the days of a month, `5L` and `5#1` among those of a week.
    fn rewrite_special(&self, item: &str) -> Result<Option<String>, Fault> {
        let upper = item.to_ascii_uppercase();
        match self.kind {
            Kind::DayOfMonth if upper == "L" || upper == "LW" => Ok(Some(upper)),
            Kind::DayOfMonth => match upper.strip_suffix('W') {
                Some(day) => Ok(Some(format!("{}W", self.value(day)?))),
                None => Ok(None),
            },
            Kind::DayOfWeek if upper == "L" => {
                Err(self.fault("has `L` without the weekday whose last occurrence is meant"))
            }
            Kind::DayOfWeek => {
                if let Some((day, occurrence)) = upper.split_once('#') {
                    let day = self.value(day)?;
                    return match occurrence {
                        "1" | "2" | "3" | "4" | "5" => Ok(Some(format!("{day}#{occurrence}"))),
                        _ => {
                            Err(self.fault(&format!("has `{item}`, and a month has 1 to 5 of each weekday")))
                        }
                    };
                }
                match upper.strip_suffix('L') {
                    Some(day) => Ok(Some(format!("{}L", self.value(day)?))),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    fn rewrite_step(&self, item: &str, range: &str, step: &str) -> Result<String, Fault> {
        let last = if self.kind == Kind::DayOfWeek { SATURDAY } else { self.max };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => self.range(item, first, last)?,
            None if range == "*" => (self.min, last),
            None => match self.value(range)? {
                SUNDAY_AGAIN if self.kind == Kind::DayOfWeek => (0, last),
                first => (first, last),
            },
        };
        let values = self.max - self.min + 1;
        match number(step) {
            Some(step) if (1..=values).contains(&step) => Ok(format!("{first}-{last}/{step}")),
            Some(_) => Err(self.fault(&format!("has `{item}`, and its step must be from 1 to {values}"))),
            None => Err(self.fault(&format!("has `{item}`, whose step is not a number"))),
        }
    }

    fn range(&self, item: &str, first: &str, last: &str) -> Result<(u32, u32), Fault> {
        let (mut first, mut last) = (self.value(first)?, self.value(last)?);
        if self.kind == Kind::DayOfWeek && first > last {
            // Sunday both opens and closes a week: `SAT-SUN` and `7-2` are in order.
            if last == 0 {
                last = SUNDAY_AGAIN;
            } else if first == SUNDAY_AGAIN {
                first = 0;
            }
        }
        if first > last {
            let end = if self.kind == Kind::DayOfWeek { SATURDAY } else { self.max };
            let mut fault = self.fault(&format!("has `{item}`, which runs backwards"));
            fault.advice = format!("write `{first}-{end},{}-{last}`", self.min);
            return Err(fault);
        }
        Ok((first, last))
    }

    fn value(&self, text: &str) -> Result<u32, Fault> {
        if let Some(value) = number(text) {
            if (self.min..=self.max).contains(&value) {
                return Ok(value);
            }
            return Err(self.fault(&format!("has {text}, and allows {} to {}", self.min, self.max)));
        }
        let named = self
            .names
            .iter()
            .zip(self.min..)
            .find(|(name, _)| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3]));
        match named {
            Some((_, value)) => Ok(value),
            None if text.is_empty() => Err(self.fault("misses a value")),
            None => Err(self.fault(&format!("has `{text}`, which it does not know"))),
        }
    }

    fn fault(&self, problem: &str) -> Fault {
        Fault { problem: format!("the {} field {problem}", self.name), advice: self.advice.to_owned() }
    }
}

/// Reads a short run of digits; leading zeros are fine, signs are not.
fn number(text: &str) -> Option<u32> {
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits_only { Some(text.parse().unwrap_or(u32::MAX)) } else { None }
}
