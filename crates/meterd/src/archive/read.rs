//! What the archive returns when it is asked.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::database::{Arg, Read, Session, Transaction};
use super::error::{Kind, SqlError};
use super::names::parse_compact;
use super::row::{Meter, hash, parent_hash};
use super::sketch::Sketch;
use super::writer::read_sketch;

/// Days of one statement.
const DAYS: usize = 500;

/// The last batch of a meter that is in SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    /// How many there are; 0 for none.
    pub(crate) seq: i64,
    pub(crate) id: String,
}

/// A batch, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// Its id.
    pub id: String,
    /// Its meter.
    pub meter: Vec<u8>,
    /// Its first day, as `2022-08-09`.
    pub first_day: String,
    /// Its last day.
    pub last_day: String,
    /// When it was archived, as the database writes it, UTC.
    pub archived_at: String,
}

/// One moment of the archive.
pub(crate) struct Snapshot<'a> {
    session: &'a mut Session,
    meter: &'a Meter,
}

/// The last batch of a meter, now.
pub(crate) async fn last(session: &mut Session, meter: &Meter) -> Result<Last, SqlError> {
    let sql = "SELECT seq, id FROM meter_batch WHERE meter_hash = ? ORDER BY seq DESC LIMIT 1";
    let rows = session.query(sql, &[Arg::Bytes(&meter.hash)], &[Read::Int, Read::Text]).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(Last::default()) };
    let mut cells = row.into_iter();
    let (Some(seq), Some(id)) = (cells.next(), cells.next()) else { return Ok(Last::default()) };
    Ok(Last { seq: seq.int()?, id: id.text()? })
}

/// The batches that were archived last, the latest first.
pub(crate) async fn batches(session: &mut Session, count: usize) -> Result<Vec<BatchInfo>, SqlError> {
    let dialect = session.dialect();
    let sql = format!(
        "SELECT id, meter, {}, {}, {} FROM meter_batch ORDER BY archived_at DESC LIMIT {count}",
        dialect.day_out("first_day"),
        dialect.day_out("last_day"),
        dialect.day_out("archived_at")
    );
    let reads = [Read::Text, Read::Bytes, Read::Text, Read::Text, Read::Text];
    let mut batches = Vec::new();
    for row in session.query(&sql, &[], &reads).await? {
        let mut cells = row.into_iter();
        let mut next = || cells.next().ok_or_else(|| SqlError::new(Kind::Other, "a row is too short"));
        batches.push(BatchInfo {
            id: next()?.text()?,
            meter: next()?.bytes()?,
            first_day: next()?.text()?,
            last_day: next()?.text()?,
            archived_at: next()?.text()?,
        });
    }
    Ok(batches)
}

/// The meters that have been archived and whose names begin with `prefix`, in the order of their hashes after `after`.
pub(crate) async fn meters(session: &mut Session) -> Result<Vec<Vec<u8>>, SqlError> {
    let sql = "SELECT meter FROM meter_batch WHERE seq = 1";
    let mut meters = Vec::new();
    for row in session.query(sql, &[], &[Read::Bytes]).await? {
        for cell in row {
            meters.push(cell.bytes()?);
        }
    }
    Ok(meters)
}

impl<'a> Snapshot<'a> {
    /// Begins it: all that is read until it ends is of one moment.
    pub(crate) async fn begin(session: &'a mut Session, meter: &'a Meter) -> Result<Self, SqlError> {
        session.begin(Transaction::Snapshot).await?;
        Ok(Self { session, meter })
    }

    pub(crate) async fn end(self) -> Result<(), SqlError> {
        self.session.commit().await
    }

    /// The last batch of the meter.
    pub(crate) async fn last(&mut self) -> Result<Last, SqlError> {
        last(self.session, self.meter).await
    }

    /// Whether a batch is there.
    pub(crate) async fn has(&mut self, id: &str) -> Result<bool, SqlError> {
        super::writer::has_batch(self.session, id).await
    }

    /// The counts of the hours of these days, both included.
    pub(crate) async fn hours(&mut self, from: Date, to: Date) -> Result<Vec<(Date, i64, i64)>, SqlError> {
        let dialect = self.session.dialect();
        let sql = format!(
            "SELECT {}, {}, count FROM meter_hour WHERE meter_hash = ? AND day BETWEEN {} AND {}",
            dialect.day_out("day"),
            dialect.sum_out("hour"),
            dialect.day_in(),
            dialect.day_in(),
        );
        let (from, to) = (from.to_string(), to.to_string());
        let args = [Arg::Bytes(&self.meter.hash), Arg::Text(&from), Arg::Text(&to)];
        let mut hours = Vec::new();
        for row in self.session.query(&sql, &args, &[Read::Text, Read::Int, Read::Int]).await? {
            let [day, hour, count] = <[_; 3]>::try_from(row).map_err(|_| short())?;
            hours.push((day_of(&day.text()?)?, hour.int()?, count.int()?));
        }
        Ok(hours)
    }

    /// The counts of a path on these days.
    pub(crate) async fn path(&mut self, days: &[Date], path: &[Vec<u8>]) -> Result<Vec<(Date, i64)>, SqlError> {
        let Some((member, above)) = path.split_last() else { return Ok(Vec::new()) };
        let (parent, member) = (parent_hash(&self.meter.name, above), hash(member));
        let dialect = self.session.dialect();
        let mut counts = Vec::new();
        for days in days.chunks(DAYS) {
            let texts: Vec<String> = days.iter().map(Date::to_string).collect();
            let sql = format!(
                "SELECT {}, count FROM meter_path WHERE parent_hash = ? AND member_hash = ? AND day IN ({})",
                dialect.day_out("day"),
                vec![dialect.day_in(); days.len()].join(",")
            );
            let mut args = vec![Arg::Bytes(&parent), Arg::Bytes(&member)];
            args.extend(texts.iter().map(|text| Arg::Text(text)));
            for row in self.session.query(&sql, &args, &[Read::Text, Read::Int]).await? {
                let [day, count] = <[_; 2]>::try_from(row).map_err(|_| short())?;
                counts.push((day_of(&day.text()?)?, count.int()?));
            }
        }
        Ok(counts)
    }

    /// The counts of the members below a path, summed up over these days.
    pub(crate) async fn members(
        &mut self,
        days: &[Date],
        above: &[Vec<u8>],
        sums: &mut BTreeMap<Vec<u8>, u128>,
    ) -> Result<(), SqlError> {
        let parent = parent_hash(&self.meter.name, above);
        let dialect = self.session.dialect();
        let column = format!("member{}", above.len() + 1);
        for days in days.chunks(DAYS) {
            let texts: Vec<String> = days.iter().map(Date::to_string).collect();
            let sql = format!(
                "SELECT {column}, count FROM meter_path WHERE parent_hash = ? AND day IN ({})",
                vec![dialect.day_in(); days.len()].join(",")
            );
            let mut args = vec![Arg::Bytes(&parent)];
            args.extend(texts.iter().map(|text| Arg::Text(text)));
            for row in self.session.query(&sql, &args, &[Read::Bytes, Read::Int]).await? {
                let [member, count] = <[_; 2]>::try_from(row).map_err(|_| short())?;
                let count = u128::try_from(count.int()?).unwrap_or(0);
                *sums.entry(member.bytes()?).or_default() += count;
            }
        }
        Ok(())
    }

    /// Merges the distinct ids of these days.
    pub(crate) async fn unique(&mut self, from: Date, to: Date, into: &mut Option<Sketch>) -> Result<(), SqlError> {
        let dialect = self.session.dialect();
        let sql = format!(
            "SELECT {}, sketch FROM meter_unique WHERE meter_hash = ? AND day BETWEEN {} AND {}",
            dialect.day_out("day"),
            dialect.day_in(),
            dialect.day_in()
        );
        let (from, to) = (from.to_string(), to.to_string());
        let args = [Arg::Bytes(&self.meter.hash), Arg::Text(&from), Arg::Text(&to)];
        for row in self.session.query(&sql, &args, &[Read::Text, Read::Bytes]).await? {
            let [day, sketch] = <[_; 2]>::try_from(row).map_err(|_| short())?;
            let sketch = read_sketch(&sketch.bytes()?, &day.text()?)?;
            into.get_or_insert_default().merge(&sketch);
        }
        Ok(())
    }
}

fn day_of(text: &str) -> Result<Date, SqlError> {
    parse_compact(text.replace('-', "").as_bytes())
        .ok_or_else(|| SqlError::new(Kind::Other, format!("the archive holds the day {text:?}, which is none")))
}

fn short() -> SqlError {
    SqlError::new(Kind::Other, "a row of the archive has another number of columns")
}
