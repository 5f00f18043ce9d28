//! What is wrong with a cron expression, as far as one field at a time tells. `jobrunr_core::schedule` owns the grammar; a
//! test compares. Whether an expression ever fires is found out when the program starts.

const MACROS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const fn field(name: &'static str, min: u32, max: u32, names: &'static [&'static str]) -> Field {
    Field { name, min, max, names }
}

const FIELDS: [Field; 6] = [
    field("second", 0, 59, &[]),
    field("minute", 0, 59, &[]),
    field("hour", 0, 23, &[]),
    field("day-of-month", 1, 31, &[]),
    field("month", 1, 12, &MONTHS),
    field("day-of-week", 0, 7, &WEEKDAYS),
];

/// Says what is wrong with a cron expression.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let text = text.trim();
    if text.starts_with('@') {
        return match MACROS.iter().any(|name| name.eq_ignore_ascii_case(text)) {
            true => Ok(()),
            false => Err(format!("there is no macro `{text}`: write one of {}", MACROS.join(", "))),
        };
    }
    let values: Vec<&str> = text.split_whitespace().collect();
    let fields = match values.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        count => {
            return Err(format!(
                "a cron expression has 5 fields (minute, hour, day of month, month, day of week), or 6 with seconds in \
                 front, not {count}: write it like \"30 8 * * MON-FRI\""
            ));
        }
    };
    fields.iter().zip(values).try_for_each(|(field, value)| {
        field
            .check(value)
            .map_err(|problem| format!("the {} field of the cron expression {problem}", field.name))
    })
}

impl Field {
    fn is_day_of_week(&self) -> bool {
        self.name == "day-of-week"
    }

    fn is_day_of_month(&self) -> bool {
        self.name == "day-of-month"
    }

    fn check(&self, value: &str) -> Result<(), String> {
        let is_day = self.is_day_of_month() || self.is_day_of_week();
        if value == "*" || (is_day && value == "?") {
            return Ok(());
        }
        let items: Vec<String> = value.split(',').map(str::to_ascii_uppercase).collect();
        if self.is_day_of_month() && ["L", "LW"].iter().all(|wanted| items.iter().any(|item| item == wanted))
        {
            return Err("cannot list both `L` and `LW`".to_owned());
        }
        if items.len() > 1 && items.iter().any(|item| item == "*") {
            return Err("lists `*`, which already means every value, beside others".to_owned());
        }
        items.iter().try_for_each(|item| self.check_item(item))
    }

    fn check_item(&self, item: &str) -> Result<(), String> {
        if item.is_empty() {
            return Err("has an empty item".to_owned());
        }
        if self.is_day_of_month() {
            if item == "L" || item == "LW" {
                return Ok(());
            }
            if let Some(day) = item.strip_suffix('W') {
                return self.value(day).map(drop);
            }
        }
        if self.is_day_of_week() {
            if item == "L" {
                return Err(
                    "has `L` without the weekday whose last occurrence is meant: write `5L`".to_owned()
                );
            }
            if let Some((day, occurrence)) = item.split_once('#') {
                self.value(day)?;
                return match occurrence {
                    "1" | "2" | "3" | "4" | "5" => Ok(()),
                    _ => Err(format!("has `{item}`, and a month has 1 to 5 of each weekday")),
                };
            }
            if let Some(day) = item.strip_suffix('L') {
                return self.value(day).map(drop);
            }
        }
        let Some((range, step)) = item.split_once('/') else {
            return match item.split_once('-') {
                Some((first, last)) => self.check_range(item, first, last),
                None if item == "*" => Ok(()),
                None => self.value(item).map(drop),
            };
        };
        match range.split_once('-') {
            Some((first, last)) => self.check_range(item, first, last)?,
            None if range == "*" => {}
            None => drop(self.value(range)?),
        }
        let values = self.max - self.min + 1;
        match number(step) {
            Some(step) if (1..=values).contains(&step) => Ok(()),
            Some(_) => Err(format!("has `{item}`, and its step must be from 1 to {values}")),
            None => Err(format!("has `{item}`, whose step is not a number")),
        }
    }

    fn check_range(&self, item: &str, first: &str, last: &str) -> Result<(), String> {
        let (mut first, mut last) = (self.value(first)?, self.value(last)?);
        // Sunday both opens and closes a week.
        if self.is_day_of_week() && first > last {
            if last == 0 {
                last = 7;
            } else if first == 7 {
                first = 0;
            }
        }
        if first > last {
            return Err(format!("has `{item}`, which runs backwards: write two ranges, parted by a comma"));
        }
        Ok(())
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        if let Some(value) = number(text) {
            if (self.min..=self.max).contains(&value) {
                return Ok(value);
            }
            return Err(format!("has {text}, and allows {} to {}", self.min, self.max));
        }
        let is_named = |name: &str| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3]);
        match self.names.iter().zip(self.min..).find(|(name, _)| is_named(name)) {
            Some((_, value)) => Ok(value),
            None if text.is_empty() => Err("misses a value".to_owned()),
            None => Err(format!("has `{text}`, which it does not know")),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use jobrunr_core::schedule::{Cron, ScheduleError};

    use super::*;

    /// Whether the engine takes the text for a cron expression, be it one that never fires.
    fn is_cron(text: &str) -> bool {
        match Cron::parse(text) {
            Ok(_) | Err(ScheduleError::NeverFires { .. }) => true,
            Err(_) => false,
        }
    }

    #[test]
    fn the_macros_and_the_engine_agree_on_every_field() {
        let items = [
            "",
            "*",
            "?",
            "0",
            "1",
            "5",
            "7",
            "8",
            "12",
            "13",
            "23",
            "24",
            "31",
            "32",
            "59",
            "60",
            "007",
            "99999999999",
            "-1",
            "+1",
            "1.5",
            "x",
            "L",
            "l",
            "LW",
            "lw",
            "W",
            "1W",
            "15w",
            "32W",
            "5L",
            "FRIl",
            "8L",
            "LL",
            "mon",
            "Mon",
            "MONDAY",
            "mond",
            "jan",
            "January",
            "january-mar",
            "MON#1",
            "1#5",
            "1#6",
            "1#0",
            "#1",
            "1#",
            "*/1",
            "*/2",
            "*/0",
            "*/61",
            "*/60",
            "*/x",
            "*/",
            "/2",
            "5/15",
            "1-5",
            "5-1",
            "1-5/2",
            "1-5/99",
            "1-",
            "-5",
            "SAT-SUN",
            "7-2",
            "6-0",
            "SUN-MON",
            "1,2",
            "1,,2",
            ",",
            "1,*",
            "*,*",
            "L,LW",
            "L,15",
            "1-3,5-7/2",
            "?,1",
            "*-5",
            "7/2",
            "0/7",
            "1W-5",
        ];
        for item in items {
            for position in 0..6 {
                let mut fields = ["0", "0", "0", "*", "*", "*"];
                fields[position] = item;
                let text = fields.join(" ");

                assert_eq!(
                    check(&text).is_ok(),
                    is_cron(&text),
                    "{text:?}: {:?} and {:?}",
                    check(&text),
                    Cron::parse(&text)
                );
            }
        }
    }

    #[test]
    fn the_macros_and_the_engine_agree_on_whole_expressions() {
        for text in [
            "",
            " ",
            "*",
            "* * * *",
            "* * * * *",
            " 0 8 * * * ",
            "* * * * * *",
            "* * * * * * *",
            "@daily",
            "@Hourly",
            "@midnight",
            "@never",
            "@",
            " @daily",
            "0 0 30 2 *",
            "0\t0 * * *",
        ] {
            assert_eq!(check(text).is_ok(), is_cron(text), "{text:?}: {:?}", check(text));
        }
    }
}
