//! Tables of the configuration: the columns that somebody wants to have, filled from what meters count.
//!
//! ```toml
//! [[archive.table]]
//! name = "api_usage"
//! meter = "api:requests"
//! columns = { date = "day", controller = "member1 before '#'", user_id = "member2", hit_count = "count" }
//! ```

use std::fmt;

use super::database::{Content, Read, Session, Shape, Transaction, Update};
use super::error::{Kind, SqlError};
use super::glob::Glob;
use super::row::{HourRow, MOST_LEVELS, PathRow};
use crate::config::Table as TableSettings;

/// The column that makes rows unique, beside the day.
pub(crate) const ROW_HASH: &str = "row_hash";

/// What a column holds. In the order that the columns are made in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Day,
    Hour,
    Meter,
    /// The member of a level, from 0.
    Member(usize, Part),
    Count,
}

/// A part of a member. Where the separator is missing, all of it is before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Before(String),
    After(String),
    Whole,
}

impl Part {
    fn of<'a>(&self, member: &'a [u8]) -> &'a [u8] {
        let cut = |separator: &str| {
            let separator = separator.as_bytes();
            member.windows(separator.len()).position(|window| window == separator).map(|at| (at, at + separator.len()))
        };
        match self {
            Self::Whole => member,
            Self::Before(separator) => cut(separator).map_or(member, |(at, _)| &member[..at]),
            Self::After(separator) => cut(separator).map_or(&[], |(_, end)| &member[end..]),
        }
    }
}

/// A table of the configuration, checked.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) shape: Shape,
    meter: Glob,
    /// What each column of `shape` holds, but the hash, which comes before the count.
    sources: Vec<Source>,
    /// The level whose members fill it, from 1; 0: the hours do.
    pub(crate) depth: usize,
    made_for: String,
}

/// A row of such a table, to be merged with others of the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableRow {
    pub(crate) day: String,
    /// What stands in the columns, but day, hash and count.
    pub(crate) values: Vec<Value>,
    pub(crate) count: i64,
}

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Int(i64),
}

impl Table {
    /// Checks what the configuration says.
    ///
    /// # Errors
    /// A sentence that names what is wrong, and what would be right.
    pub(crate) fn parse(settings: &TableSettings) -> Result<Self, String> {
        let name = &settings.name;
        let wrong = |what: String| format!("archive.table {name:?}: {what}");
        check_name(name).map_err(wrong)?;
        if name.starts_with("meter_") {
            return Err(wrong("names that begin with meter_ are meterd's own; choose another".to_owned()));
        }
        let mut columns = Vec::new();
        for (column, source) in &settings.columns {
            check_name(column).map_err(wrong)?;
            if column == ROW_HASH {
                return Err(wrong(format!("column {ROW_HASH} is made by meterd itself; choose another name")));
            }
            let source = parse_source(source).map_err(|what| wrong(format!("column {column}: {what}")))?;
            columns.push((source, column.clone()));
        }
        columns.sort();
        let counts = columns.iter().filter(|(source, _)| *source == Source::Count).count();
        if counts != 1 {
            return Err(wrong(format!("exactly one column must hold \"count\", not {counts}")));
        }
        let days = columns.iter().filter(|(source, _)| *source == Source::Day).count();
        if days != 1 {
            return Err(wrong(format!("exactly one column must hold \"day\", not {days}")));
        }
        let depth = columns.iter().map(|(source, _)| source.depth()).max().unwrap_or(0);
        if depth > 0 && columns.iter().any(|(source, _)| *source == Source::Hour) {
            return Err(wrong("hours are not broken down: a table has \"hour\" or members, not both".to_owned()));
        }
        Ok(Self::new(settings, columns, depth))
    }

    fn new(settings: &TableSettings, columns: Vec<(Source, String)>, depth: usize) -> Self {
        let made_for = columns.iter().map(|(source, column)| format!("{column} = {source}")).collect::<Vec<_>>();
        let made_for = format!("{} of {}", made_for.join(", "), settings.meter);
        let mut shape: Vec<(String, Content)> =
            columns.iter().map(|(source, column)| (column.clone(), source.content())).collect();
        shape.insert(shape.len() - 1, (ROW_HASH.to_owned(), Content::Hash));
        let key = vec![shape[0].0.clone(), ROW_HASH.to_owned()];
        let shape = Shape { table: settings.name.clone(), columns: shape, key, update: Update::AddLast };
        let sources = columns.into_iter().map(|(source, _)| source).collect();
        Self { shape, meter: Glob::new(settings.meter.as_bytes()), sources, depth, made_for }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.shape.table
    }

    /// Whether a meter fills it.
    pub(crate) fn is_of(&self, meter: &[u8]) -> bool {
        self.meter.matches(meter)
    }

    /// What stands in it of an hour.
    pub(crate) fn hour(&self, meter: &[u8], row: &HourRow) -> TableRow {
        self.row(meter, row.day.to_string(), row.hour, &|_| &[], row.count)
    }

    /// What stands in it of a member.
    pub(crate) fn member(&self, meter: &[u8], row: &PathRow) -> TableRow {
        self.row(meter, row.parent.day.clone(), 0, &|level| row.member(level), row.count)
    }

    fn row<'a>(
        &self,
        meter: &[u8],
        day: String,
        hour: i64,
        member: &dyn Fn(usize) -> &'a [u8],
        count: i64,
    ) -> TableRow {
        let values = self.sources.iter().filter_map(|source| match source {
            Source::Day | Source::Count => None,
            Source::Hour => Some(Value::Int(hour)),
            Source::Meter => Some(Value::Bytes(meter.to_vec())),
            Source::Member(level, part) => Some(Value::Bytes(part.of(member(*level)).to_vec())),
        });
        TableRow { day, values: values.collect(), count }
    }

    /// Makes it if it is missing.
    ///
    /// # Errors
    /// It was made for other columns; it is there, but somebody else's; or as the database says.
    pub(crate) async fn make(&self, session: &mut Session) -> Result<(), SqlError> {
        let name = self.shape.table.as_str();
        if let Some(made_for) = self.recorded(session).await? {
            if made_for == self.made_for {
                return Ok(());
            }
            return Err(SqlError::new(
                Kind::Other,
                format!(
                    "table {name} was made for other columns or another meter ({made_for}): give the new one another \
                     name, or DROP TABLE {name} and delete its row of meter_table"
                ),
            ));
        }
        session.begin(Transaction::Write).await?;
        session.execute(&self.create(session), &[]).await?;
        let sql = "INSERT INTO meter_table (name, made_for) VALUES (?, ?)";
        let args = [super::database::Arg::Text(name), super::database::Arg::Text(&self.made_for)];
        match session.execute(sql, &args).await {
            // Somebody else has made it meanwhile.
            Err(error) if error.kind == Kind::Duplicate => session.rollback().await?,
            Err(error) => return Err(error),
            Ok(_) => session.commit().await?,
        }
        self.check(session).await
    }

    async fn recorded(&self, session: &mut Session) -> Result<Option<String>, SqlError> {
        let args = [super::database::Arg::Text(&self.shape.table)];
        let rows = session.query("SELECT made_for FROM meter_table WHERE name = ?", &args, &[Read::Text]).await?;
        rows.into_iter().next().and_then(|row| row.into_iter().next()).map(super::database::Cell::text).transpose()
    }

    fn create(&self, session: &Session) -> String {
        let dialect = session.dialect();
        let quote = |name: &str| dialect.quoted(name);
        let mut parts: Vec<String> = self
            .shape
            .columns
            .iter()
            .map(|(name, content)| format!("{} {} NOT NULL", quote(name), dialect.column_type(*content)))
            .collect();
        if let Some((name, _)) = self.shape.columns.last() {
            let check = dialect.count_check(&quote(name));
            parts.last_mut().expect("a column").push_str(&check);
        }
        let key: Vec<String> = self.shape.key.iter().map(|name| quote(name)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        format!("CREATE TABLE IF NOT EXISTS {} ({}){}", quote(&self.shape.table), parts.join(", "), dialect.table_end())
    }

    /// A table that was there before has to have all columns.
    async fn check(&self, session: &mut Session) -> Result<(), SqlError> {
        let dialect = session.dialect();
        let columns: Vec<String> = self.shape.columns.iter().map(|(name, _)| dialect.quoted(name)).collect();
        let table = dialect.quoted(&self.shape.table);
        let sql = format!("SELECT {} FROM {table} WHERE 1 = 0", columns.join(", "));
        session.query(&sql, &[], &[]).await.map_err(|error| {
            SqlError::new(
                error.kind,
                format!(
                    "table {} is there, but not as meterd would make it ({error}): give the new one another name, or \
                     make it so: {}",
                    self.shape.table,
                    self.create(session)
                ),
            )
        })?;
        Ok(())
    }
}

impl Source {
    fn depth(&self) -> usize {
        if let Self::Member(level, _) = self { level + 1 } else { 0 }
    }

    fn content(&self) -> Content {
        match self {
            Self::Day => Content::Day,
            Self::Hour | Self::Count => Content::Int,
            Self::Meter | Self::Member(..) => Content::Name,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("day"),
            Self::Hour => f.write_str("hour"),
            Self::Meter => f.write_str("meter"),
            Self::Count => f.write_str("count"),
            Self::Member(level, part) => {
                write!(f, "member{}", level + 1)?;
                match part {
                    Part::Whole => Ok(()),
                    Part::Before(separator) => write!(f, " before '{separator}'"),
                    Part::After(separator) => write!(f, " after '{separator}'"),
                }
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if starts && name.len() <= 63 && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Ok(())
    } else {
        Err(format!("{name:?} is no name here: at most 63 of A-Z a-z 0-9 _, and no digit first"))
    }
}

fn parse_source(text: &str) -> Result<Source, String> {
    let text = text.trim();
    match text {
        "day" => return Ok(Source::Day),
        "hour" => return Ok(Source::Hour),
        "meter" => return Ok(Source::Meter),
        "count" => return Ok(Source::Count),
        _ => {}
    }
    let wrong = || {
        format!(
            "{text:?} is not \"day\", \"hour\", \"meter\", \"count\", \"member1\" to \"member8\", or \
             \"member1 before '#'\" or \"member1 after '#'\""
        )
    };
    let rest = text.strip_prefix("member").ok_or_else(wrong)?;
    let (number, part) = rest.split_once(' ').unwrap_or((rest, ""));
    let level = number.parse::<usize>().ok().filter(|level| (1..=MOST_LEVELS).contains(level)).ok_or_else(wrong)?;
    let quoted = |text: &str| {
        let separator = text.trim().strip_prefix('\'')?.strip_suffix('\'')?;
        (!separator.is_empty()).then(|| separator.to_owned())
    };
    let part = match part.trim() {
        "" => Part::Whole,
        part => match part.split_once(' ') {
            Some(("before", text)) => Part::Before(quoted(text).ok_or_else(wrong)?),
            Some(("after", text)) => Part::After(quoted(text).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        },
    };
    Ok(Source::Member(level - 1, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(columns: &[(&str, &str)]) -> Result<Table, String> {
        let columns = columns.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
        Table::parse(&TableSettings { name: "t".to_owned(), meter: "api:*".to_owned(), columns })
    }

    #[test]
    fn a_separator_splits_a_member_at_its_first_place() {
        let part = |part: Part, member: &str| String::from_utf8(part.of(member.as_bytes()).to_vec()).expect("UTF-8");
        let (before, after) = (Part::Before("#".to_owned()), Part::After("#".to_owned()));
        for (member, first, second) in
            [("users#update", "users", "update"), ("a#b#c", "a", "b#c"), ("a", "a", ""), ("#", "", "")]
        {
            assert_eq!(
                (part(before.clone(), member), part(after.clone(), member)),
                (first.to_owned(), second.to_owned())
            );
        }
        assert_eq!(part(Part::After("::".to_owned()), "a:b::c"), "c");
    }

    #[test]
    fn the_deepest_member_says_which_counts_fill_a_table() {
        let depth = |columns: &[(&str, &str)]| parse(columns).expect("a table").depth;
        assert_eq!(depth(&[("d", "day"), ("n", "count")]), 0);
        assert_eq!(depth(&[("d", "day"), ("h", "hour"), ("m", "meter"), ("n", "count")]), 0);
        assert_eq!(depth(&[("d", "day"), ("a", "member1 before '#'"), ("b", "member3"), ("n", "count")]), 3);
        let table = parse(&[("n", "count"), ("b", "member2"), ("a", "member1"), ("d", "day")]).expect("a table");
        let names: Vec<&str> = table.shape.columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["d", "a", "b", ROW_HASH, "n"]);
        assert!(table.is_of(b"api:x") && !table.is_of(b"web"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (columns, error) in [
            (&[("d", "day")][..], "exactly one column must hold \"count\", not 0"),
            (&[("n", "count")], "exactly one column must hold \"day\", not 0"),
            (&[("d", "day"), ("n", "count"), ("m", "member9")], "column m: \"member9\" is not"),
            (&[("d", "day"), ("n", "count"), ("m", "member1 before #")], "\"member1 before '#'\""),
            (&[("d", "day"), ("n", "count"), ("m", "member1 before ''")], "column m"),
            (&[("d", "day"), ("n", "count"), ("h", "hour"), ("m", "member1")], "\"hour\" or members, not both"),
            (&[("d", "day"), ("n\"; DROP", "count")], "is no name here"),
            (&[("d", "day"), ("row_hash", "count")], "made by meterd itself"),
        ] {
            let found = parse(columns).expect_err("an error");
            assert!(found.contains(error) && found.starts_with("archive.table \"t\": "), "{found}");
        }
    }
}
