//! One batch, written in one transaction with its id.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::database::{Arg, Content, ROWS, Read, Session, Shape, Transaction, Update, Values};
use super::error::{Kind, SqlError};
use super::row::{Hash, HourRow, MOST_LEVELS, Meter, PathRow, UniqueRow, hash, shown};
use super::sketch::Sketch;
use super::table::{ROW_HASH, Table, TableRow, Value};

/// Bytes of names in one statement at most, but for one row that has more.
const BYTES: usize = 1 << 20;
/// Members that are sorted before they are written: what is near in the table is then written at once, so that a set of
/// a million members does not have its pages read and written a million times.
const SORTED: usize = 64 * ROWS;
/// Bytes of their names at most.
const SORTED_BYTES: usize = 16 * BYTES;

/// What is known of a batch before its rows.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) id: String,
    pub(crate) meter: Meter,
    pub(crate) first_day: Date,
    pub(crate) last_day: Date,
}

/// Whether a batch is in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It was not: a transaction has begun that has its id.
    New,
    /// It is; no transaction is open.
    Known,
}

/// A transaction that writes a batch. One that is not committed leaves nothing behind when its session is dropped.
pub(crate) struct Writer<'a> {
    session: &'a mut Session,
    meter: &'a Meter,
    hours: Vec<HourRow>,
    /// By level.
    paths: [Pages; MOST_LEVELS],
    tables: Vec<Merged<'a>>,
    rows: u64,
}

#[derive(Default)]
struct Pages {
    rows: Vec<PathRow>,
    bytes: usize,
}

/// Rows of a table of the configuration, merged.
struct Merged<'a> {
    table: &'a Table,
    rows: BTreeMap<(String, Hash), TableRow>,
    bytes: usize,
}

/// Begins a transaction with the id of a batch.
///
/// # Errors
/// As the database says; [`Kind::Busy`] where another batch of the meter was written meanwhile.
pub(crate) async fn begin(session: &mut Session, batch: &Batch) -> Result<Begun, SqlError> {
    session.begin(Transaction::Write).await?;
    let day = session.dialect().day_in();
    let sql = "SELECT COALESCE(MAX(seq), 0) + 1 FROM meter_batch WHERE meter_hash = ?";
    let rows = session.query(sql, &[Arg::Bytes(&batch.meter.hash)], &[Read::Int]).await?;
    let seq = rows.first().map_or(Ok(1), |row| row[0].int())?;
    let (first, last) = (batch.first_day.to_string(), batch.last_day.to_string());
    let sql = format!(
        "INSERT INTO meter_batch (id, meter, meter_hash, seq, first_day, last_day) VALUES (?, ?, ?, ?, {day}, {day})"
    );
    let args = [
        Arg::Text(&batch.id),
        Arg::Bytes(&batch.meter.name),
        Arg::Bytes(&batch.meter.hash),
        Arg::Int(seq),
        Arg::Text(&first),
        Arg::Text(&last),
    ];
    match session.execute(&sql, &args).await {
        Ok(_) => return Ok(Begun::New),
        Err(error) if error.kind == Kind::Duplicate => session.rollback().await?,
        Err(error) => return Err(error),
    }
    if has_batch(session, &batch.id).await? {
        return Ok(Begun::Known);
    }
    Err(SqlError::new(Kind::Busy, "another batch of that meter was written meanwhile"))
}

/// Whether a batch is in SQL.
pub(crate) async fn has_batch(session: &mut Session, id: &str) -> Result<bool, SqlError> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM meter_batch WHERE id = ?";
    let sql = sql.replace("CAST(COUNT(*) AS BIGINT)", &session.dialect().sum_out("COUNT(*)"));
    let rows = session.query(&sql, &[Arg::Text(id)], &[Read::Int]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row[0].int())? > 0)
}

impl<'a> Writer<'a> {
    /// Of a transaction that has begun.
    pub(crate) fn new(session: &'a mut Session, meter: &'a Meter, tables: &'a [Table]) -> Self {
        let tables = tables.iter().filter(|table| table.is_of(&meter.name));
        let tables = tables.map(|table| Merged { table, rows: BTreeMap::new(), bytes: 0 }).collect();
        Self { session, meter, hours: Vec::new(), paths: Default::default(), tables, rows: 0 }
    }

    /// Adds the count of an hour; no two of the same.
    pub(crate) async fn hour(&mut self, row: HourRow) -> Result<(), SqlError> {
        for merged in self.tables.iter_mut().filter(|merged| merged.table.depth == 0) {
            merged.add(merged.table.hour(&self.meter.name, &row))?;
        }
        self.flush_tables(ROWS).await?;
        self.hours.push(row);
        if self.hours.len() >= ROWS {
            self.flush_hours().await?;
        }
        Ok(())
    }

    /// Adds the count of a member; no two of the same.
    pub(crate) async fn path(&mut self, row: PathRow) -> Result<(), SqlError> {
        let depth = row.parent.depth();
        for merged in self.tables.iter_mut().filter(|merged| merged.table.depth == depth) {
            merged.add(merged.table.member(&self.meter.name, &row))?;
        }
        self.flush_tables(ROWS).await?;
        let pages = &mut self.paths[depth - 1];
        pages.bytes += row.bytes();
        pages.rows.push(row);
        if pages.rows.len() >= SORTED || pages.bytes >= SORTED_BYTES {
            self.flush_paths(depth).await?;
        }
        Ok(())
    }

    /// Merges the distinct ids of a day with those that are there.
    pub(crate) async fn unique(&mut self, row: UniqueRow) -> Result<(), SqlError> {
        let day = row.day.to_string();
        let sql = format!(
            "SELECT sketch FROM meter_unique WHERE meter_hash = ? AND day = {}",
            self.session.dialect().day_in()
        );
        let args = [Arg::Bytes(&self.meter.hash), Arg::Text(&day)];
        let mut sketch = row.sketch;
        for found in self.session.query(&sql, &args, &[Read::Bytes]).await? {
            for bytes in found {
                sketch.merge(&read_sketch(&bytes.bytes()?, &day)?);
            }
        }
        let estimate = i64::try_from(sketch.count()).unwrap_or(i64::MAX);
        let bytes = sketch.write();
        let columns = [
            Values::Same(Arg::Bytes(&self.meter.name), 1),
            Values::Same(Arg::Text(&day), 1),
            Values::Same(Arg::Bytes(&self.meter.hash), 1),
            Values::Same(Arg::Int(estimate), 1),
            Values::Same(Arg::Bytes(&bytes), 1),
        ];
        self.rows += 1;
        self.session.upsert(&unique_shape(), &columns).await
    }

    /// Writes what is left; how many rows it were in all. The transaction is still open.
    pub(crate) async fn flush(&mut self) -> Result<u64, SqlError> {
        self.flush_hours().await?;
        for depth in 1..=MOST_LEVELS {
            self.flush_paths(depth).await?;
        }
        self.flush_tables(1).await?;
        Ok(self.rows)
    }

    async fn flush_hours(&mut self) -> Result<(), SqlError> {
        let rows = std::mem::take(&mut self.hours);
        let days: Vec<String> = rows.iter().map(|row| row.day.to_string()).collect();
        let columns = [
            Values::Same(Arg::Bytes(&self.meter.name), rows.len()),
            Values::days(days.iter().map(String::as_str).collect()),
            Values::Ints(rows.iter().map(|row| row.hour).collect()),
            Values::Same(Arg::Bytes(&self.meter.hash), rows.len()),
            Values::Ints(rows.iter().map(|row| row.count).collect()),
        ];
        self.rows += rows.len() as u64;
        upsert(self.session, &hour_shape(), &columns).await
    }

    async fn flush_paths(&mut self, depth: usize) -> Result<(), SqlError> {
        let Pages { mut rows, .. } = std::mem::take(&mut self.paths[depth - 1]);
        // In the order of the key, in which programs that write the same rows also meet each other.
        rows.sort_unstable_by(|a, b| {
            let key = |row: &'_ PathRow| (row.parent.hash, row.member_hash);
            a.parent.day.cmp(&b.parent.day).then_with(|| key(a).cmp(&key(b)))
        });
        self.rows += rows.len() as u64;
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(statement(rest));
            upsert(self.session, &path_shape(depth), &path_columns(self.meter, depth, now)).await?;
            rest = later;
        }
        Ok(())
    }

    /// Writes the tables that have so many rows, or many bytes.
    async fn flush_tables(&mut self, least: usize) -> Result<(), SqlError> {
        for merged in &mut self.tables {
            if merged.rows.len() < least && merged.bytes < BYTES {
                continue;
            }
            merged.bytes = 0;
            let rows = std::mem::take(&mut merged.rows);
            self.rows += rows.len() as u64;
            upsert(self.session, &merged.table.shape, &table_columns(&merged.table.shape, &rows)).await?;
        }
        Ok(())
    }
}

/// How many of these rows one statement takes.
fn statement(rows: &[PathRow]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take(ROWS).take_while(|row| {
        bytes += row.bytes();
        bytes <= BYTES
    });
    fits.count().max(1)
}

fn path_columns<'a>(meter: &'a Meter, depth: usize, rows: &'a [PathRow]) -> Vec<Values<'a>> {
    let mut columns = vec![
        Values::Same(Arg::Bytes(&meter.name), rows.len()),
        Values::days(rows.iter().map(|row| row.parent.day.as_str()).collect()),
        Values::Same(Arg::Int(depth as i64), rows.len()),
    ];
    for level in 0..depth {
        columns.push(Values::Bytes(rows.iter().map(|row| row.member(level)).collect()));
    }
    columns.push(Values::Bytes(rows.iter().map(|row| &row.parent.hash[..]).collect()));
    columns.push(Values::Bytes(rows.iter().map(|row| &row.member_hash[..]).collect()));
    columns.push(Values::Ints(rows.iter().map(|row| row.count).collect()));
    columns
}

impl Merged<'_> {
    fn add(&mut self, row: TableRow) -> Result<(), SqlError> {
        let key = (row.day.clone(), row_hash(&row.values));
        let bytes = row.values.iter().map(|value| if let Value::Bytes(bytes) = value { bytes.len() } else { 8 });
        self.bytes += bytes.sum::<usize>();
        match self.rows.entry(key) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(row);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                let there = place.get_mut();
                there.count = there.count.checked_add(row.count).ok_or_else(|| {
                    let (table, day) = (&self.table.shape.table, &there.day);
                    SqlError::new(
                        Kind::Overflow,
                        format!(
                            "table {table}: the count of {} on {day} would pass 2^63-1",
                            shown_values(&there.values)
                        ),
                    )
                })?;
            }
        }
        Ok(())
    }
}

fn shown_values(values: &[Value]) -> String {
    let shown = values.iter().map(|value| match value {
        Value::Bytes(bytes) => shown(bytes),
        Value::Int(n) => n.to_string(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn row_hash(values: &[Value]) -> Hash {
    let mut all = Vec::with_capacity(values.len() * 32);
    for value in values {
        all.extend(match value {
            Value::Bytes(bytes) => hash(bytes),
            Value::Int(n) => hash(n.to_string().as_bytes()),
        });
    }
    hash(&all)
}

fn table_columns<'a>(shape: &Shape, rows: &'a BTreeMap<(String, Hash), TableRow>) -> Vec<Values<'a>> {
    let mut columns = Vec::with_capacity(shape.columns.len());
    let mut value = 0;
    for (place, (name, content)) in shape.columns.iter().enumerate() {
        columns.push(if *content == Content::Day {
            Values::days(rows.keys().map(|(day, _)| day.as_str()).collect())
        } else if name == ROW_HASH {
            Values::Bytes(rows.keys().map(|(_, hash)| &hash[..]).collect())
        } else if place + 1 == shape.columns.len() {
            Values::Ints(rows.values().map(|row| row.count).collect())
        } else {
            value += 1;
            column_of(rows, value - 1, *content)
        });
    }
    columns
}

fn column_of(rows: &BTreeMap<(String, Hash), TableRow>, place: usize, content: Content) -> Values<'_> {
    let values = rows.values().map(|row| &row.values[place]);
    if content == Content::Int {
        Values::Ints(values.map(|value| if let Value::Int(n) = value { *n } else { 0 }).collect())
    } else {
        Values::Bytes(values.map(|value| if let Value::Bytes(bytes) = value { &bytes[..] } else { &[] }).collect())
    }
}

/// Writes rows, and finds the one to blame where a count does not fit.
async fn upsert(session: &mut Session, shape: &Shape, columns: &[Values<'_>]) -> Result<(), SqlError> {
    let Err(error) = session.upsert(shape, columns).await else { return Ok(()) };
    if error.kind != Kind::Overflow {
        return Err(error);
    }
    for row in 0..columns[0].len() {
        let one: Vec<Values<'_>> = columns.iter().map(|column| column.one(row)).collect();
        match session.upsert(shape, &one).await {
            Err(error) if error.kind == Kind::Overflow => {
                let row = shown_row(shape, &one);
                let text = format!("table {}: the count of the row {row} does not fit ({error})", shape.table);
                return Err(SqlError::new(Kind::Overflow, text));
            }
            result => result?,
        }
    }
    Err(error)
}

/// A row for people: the columns that are no hash.
fn shown_row(shape: &Shape, row: &[Values<'_>]) -> String {
    let columns = shape.columns.iter().zip(row).filter(|((_, content), _)| *content != Content::Hash);
    let shown = columns.map(|((name, _), values)| match values.at(0) {
        Arg::Bytes(bytes) => format!("{name} {}", shown(bytes)),
        Arg::Text(text) => format!("{name} {text}"),
        Arg::Int(n) => format!("{name} {n}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The sketch that a row of `meter_unique` has.
pub(crate) fn read_sketch(bytes: &[u8], day: &str) -> Result<Sketch, SqlError> {
    Sketch::read(bytes).map_err(|_| {
        SqlError::new(Kind::Other, format!("the sketch of {day} in meter_unique is no HyperLogLog: restore that row"))
    })
}

fn shape(table: &str, columns: Vec<(&str, Content)>, key: &[&str], update: Update) -> Shape {
    Shape {
        table: table.to_owned(),
        columns: columns.into_iter().map(|(name, content)| (name.to_owned(), content)).collect(),
        key: key.iter().map(|&name| name.to_owned()).collect(),
        update,
    }
}

fn hour_shape() -> Shape {
    use Content::{Bytes, Day, Hash, Int};
    let columns = vec![("meter", Bytes), ("day", Day), ("hour", Int), ("meter_hash", Hash), ("count", Int)];
    shape("meter_hour", columns, &["meter_hash", "day", "hour"], Update::AddLast)
}

fn path_shape(depth: usize) -> Shape {
    use Content::{Bytes, Day, Hash, Int};
    const MEMBERS: [&str; MOST_LEVELS] =
        ["member1", "member2", "member3", "member4", "member5", "member6", "member7", "member8"];
    let mut columns = vec![("meter", Bytes), ("day", Day), ("depth", Int)];
    columns.extend(MEMBERS[..depth].iter().map(|name| (*name, Bytes)));
    columns.extend([("parent_hash", Hash), ("member_hash", Hash), ("count", Int)]);
    shape("meter_path", columns, &["day", "parent_hash", "member_hash"], Update::AddLast)
}

fn unique_shape() -> Shape {
    use Content::{Bytes, Day, Hash, Int};
    let columns = vec![("meter", Bytes), ("day", Day), ("meter_hash", Hash), ("estimate", Int), ("sketch", Bytes)];
    shape("meter_unique", columns, &["meter_hash", "day"], Update::ReplaceLastTwo)
}
