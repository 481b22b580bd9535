//! The tables, brought to the version that this program knows.

use super::database::{Read, Session, Transaction};
use super::error::{Kind, SqlError};
use super::table::Table;

/// Makes the tables, or brings those of an older version up to date, and makes the tables of the configuration that are
/// missing. Programs that do so at the same time wait for each other.
///
/// # Errors
/// The tables are of a newer version; or as the database says.
pub(crate) async fn prepare(session: &mut Session, tables: &[Table]) -> Result<(), SqlError> {
    let newest = session.dialect().migrations().len();
    migrate(session, newest).await?;
    for table in tables {
        table.make(session).await?;
    }
    Ok(())
}

/// Brings the tables to `target`.
pub(crate) async fn migrate(session: &mut Session, target: usize) -> Result<(), SqlError> {
    let found = version(session).await?;
    if found == target {
        return Ok(());
    }
    if found > target {
        return Err(SqlError::new(
            Kind::Other,
            format!("the tables are of version {found}, and this program knows only {target}: use a newer meterd"),
        ));
    }
    let transactional = session.dialect().has_transactional_tables();
    if transactional {
        session.begin(Transaction::Write).await?;
    }
    let lock = session.dialect().migration_lock();
    if let Some((lock, _)) = lock {
        let rows = session.query(lock, &[], &[Read::Int]).await?;
        if rows.first().and_then(|row| row[0].int().ok()) != Some(1) {
            return Err(SqlError::new(Kind::Busy, "another program is making the tables"));
        }
    }
    step_up(session, target).await?;
    if transactional {
        session.commit().await?;
    }
    if let Some((_, Some(unlock))) = lock {
        session.execute(unlock, &[]).await?;
    }
    Ok(())
}

async fn step_up(session: &mut Session, target: usize) -> Result<(), SqlError> {
    let end = session.dialect().table_end();
    let make = format!(
        "CREATE TABLE IF NOT EXISTS meter_schema (one INTEGER NOT NULL PRIMARY KEY, version BIGINT NOT NULL){end}"
    );
    session.execute(&make, &[]).await?;
    // Again, now that nobody else can change it.
    let mut found = stored(session).await?.unwrap_or(0);
    if found == 0 {
        session.execute("DELETE FROM meter_schema", &[]).await?;
        session.execute("INSERT INTO meter_schema (one, version) VALUES (1, 0)", &[]).await?;
    }
    while found < target {
        for sql in session.dialect().migrations()[found] {
            session.execute(sql, &[]).await?;
        }
        found += 1;
        session.execute(&format!("UPDATE meter_schema SET version = {found}"), &[]).await?;
    }
    Ok(())
}

/// The version of the tables that are there; 0 if none are.
async fn version(session: &mut Session) -> Result<usize, SqlError> {
    match stored(session).await {
        Ok(version) => Ok(version.unwrap_or(0)),
        // The table is missing, most likely; if it is something else, making it will say so.
        Err(error) if error.kind == Kind::Other => {
            session.mend();
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

async fn stored(session: &mut Session) -> Result<Option<usize>, SqlError> {
    let rows = session.query("SELECT version FROM meter_schema", &[], &[Read::Int]).await?;
    let version = rows.first().map(|row| row[0].int()).transpose()?;
    Ok(version.and_then(|version| usize::try_from(version).ok()))
}
