//! `meterd report METER --from DATE --to DATE [--by …] [--path M …] [--tz ZONE] [--format …]`

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::archive::{Archive, Pool, shown};
use crate::config::Config;
use crate::connection::Redis;
use crate::usage::{self, By, Question, Usage};

/// Prints what a meter has counted, in Redis and in SQL together
#[derive(Debug, Args)]
pub struct Arguments {
    /// The meter
    meter: std::ffi::OsString,
    /// The first day, as 2022-08-09
    #[arg(long, value_name = "DATE", value_parser = usage::parse_day)]
    from: jiff::civil::Date,
    /// The last day
    #[arg(long, value_name = "DATE", value_parser = usage::parse_day)]
    to: jiff::civil::Date,
    /// hour, day, week, month or total
    #[arg(long, default_value = "day")]
    by: By,
    /// A member of a breakdown, after those above it
    #[arg(long, value_name = "MEMBER", num_args = 1..=8)]
    path: Vec<std::ffi::OsString>,
    /// The time zone whose days are meant, such as Europe/Berlin; by default UTC
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

pub(super) async fn run(arguments: Arguments, config: Config) -> Result<ExitCode, String> {
    use std::os::unix::ffi::OsStringExt;

    let question = Question {
        meter: arguments.meter.into_vec(),
        from: arguments.from,
        to: arguments.to,
        by: arguments.by,
        path: arguments.path.into_iter().map(OsStringExt::into_vec).collect(),
        tz: arguments.tz.as_deref().map(usage::zone).transpose()?.flatten(),
    };
    let pool = Pool::new(Archive::of(&config)?);
    let redis = Redis::connect(config.redis, config.deadline);
    redis.up_within(config.deadline).await;
    let usage = usage::usage(&redis, &pool, &question).await.map_err(|error| error.to_string())?;
    crate::say::print(format_args!(
        "{}",
        print(&question, arguments.tz.as_deref().unwrap_or("UTC"), &usage, arguments.format)
    ));
    Ok(ExitCode::SUCCESS)
}

fn print(question: &Question, tz: &str, usage: &Usage, format: Format) -> String {
    match format {
        Format::Csv => {
            let lines = usage.buckets.iter().map(|(bucket, count)| format!("{bucket},{count}\n"));
            let unique = usage.unique.map(|unique| format!("unique,{unique}\n"));
            "bucket,count\n".to_owned() + &lines.chain(unique).collect::<String>()
        }
        Format::Json => {
            let buckets: Vec<_> = usage
                .buckets
                .iter()
                .map(|(bucket, count)| serde_json::json!({"bucket": bucket, "count": number(*count)}))
                .collect();
            let mut json = serde_json::json!({
                "meter": shown(&question.meter),
                "from": question.from.to_string(),
                "to": question.to.to_string(),
                "by": question.by.to_string(),
                "tz": tz,
                "usage": buckets,
            });
            if let Some(unique) = usage.unique {
                json["unique"] = unique.into();
            }
            format!("{json}\n")
        }
        Format::Table => table(usage),
    }
}

/// A JSON number; a count beyond 64 bits, which only sums reach, as a text.
fn number(count: u128) -> serde_json::Value {
    u64::try_from(count).map_or_else(|_| count.to_string().into(), Into::into)
}

fn table(usage: &Usage) -> String {
    let mut lines: Vec<(String, String)> =
        usage.buckets.iter().map(|(bucket, count)| (bucket.clone(), grouped(*count))).collect();
    if usage.buckets.len() > 1 {
        lines.push(("total".to_owned(), grouped(usage.buckets.iter().map(|(_, count)| count).sum())));
    }
    if let Some(unique) = usage.unique {
        lines.push(("unique".to_owned(), grouped(u128::from(unique))));
    }
    if lines.is_empty() {
        return "nothing is counted there\n".to_owned();
    }
    let width = |of: &dyn Fn(&(String, String)) -> usize| lines.iter().map(of).max().unwrap_or(0);
    let (left, right) = (width(&|line| line.0.len()), width(&|line| line.1.len()));
    let highest = usage.buckets.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let mut text = String::new();
    for (place, (bucket, count)) in lines.iter().enumerate() {
        let bar = usage.buckets.get(place).map_or(0, |(_, count)| count * 40 / highest);
        let bar = "▇".repeat(usize::try_from(bar).unwrap_or(0));
        text.push_str(format!("{bucket:<left$}  {count:>right$}  {bar}").trim_end());
        text.push('\n');
    }
    text
}

/// A number with a thin gap between thousands: `1 234 567`.
pub(super) fn grouped(count: u128) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
