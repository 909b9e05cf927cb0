//! Makes many finished tasks of a few, by copying every row that names them.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Tasks that are copied, each as often.
const SAMPLES: i64 = 16;
/// Copies that one statement makes.
const CHUNK: i64 = 50_000;
/// Tables written at once.
const WRITERS: usize = 2;

/// A table with rows of the sample.
struct Table {
    name: String,
    /// What is copied, and what each becomes; other columns get their defaults.
    columns: Vec<(String, String)>,
    /// Rows of the sample: the more, the longer it takes.
    rows: i64,
}

/// Makes so many finished tasks of a template, and says how many rows they have. Some such tasks must
/// have been run: their rows are copied to each table with a `task_id`, whatever the schema is.
///
/// Foreign keys are not looked at meanwhile. In the end all tables are vacuumed and analyzed.
pub async fn multiply(url: &str, template: &str, tasks: i64) -> Result<u64> {
    let mut database = PgConnection::connect(url).await?;
    let tables = sample(&mut database, template).await?;
    name_copies(&mut database, tasks).await?;
    let tables = Mutex::new(tables);
    let written = try_join_all((0..WRITERS).map(|_| write(url, &tables, tasks))).await?;
    for statement in ["DROP SCHEMA bulk CASCADE", "VACUUM (ANALYZE)", "CHECKPOINT"] {
        sqlx::raw_sql(statement).execute(&mut database).await?;
    }
    database.close().await?;
    Ok(written.into_iter().sum())
}

/// Puts the rows of the sample aside, and returns the tables they are of, the largest last.
async fn sample(database: &mut PgConnection, template: &str) -> Result<Vec<Table>> {
    sqlx::raw_sql("CREATE SCHEMA bulk").execute(&mut *database).await?;
    let tasks = sqlx::query(
        "CREATE TABLE bulk.sample AS
         SELECT task_id, row_number() OVER () AS nth FROM (
            SELECT task_id FROM task_search WHERE name = $1 AND rests_in = 'complete'
            ORDER BY task_id DESC LIMIT $2) AS finished",
    );
    let tasks = tasks.bind(template).bind(SAMPLES).execute(&mut *database).await?.rows_affected();
    ensure!(i64::try_from(tasks)? == SAMPLES, "only {tasks} tasks of {template} have finished");
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
           AND NOT relispartition AND attname = 'task_id'",
    )
    .fetch_all(&mut *database)
    .await?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        let copy = format!(
            "CREATE TABLE bulk.{name} AS SELECT rows.* FROM {name} AS rows JOIN bulk.sample USING (task_id)"
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut *database).await?;
        let rows = i64::try_from(rows.rows_affected())?;
        if rows > 0 {
            let columns = columns(database, &name).await?;
            tables.push(Table { name, columns, rows });
        }
    }
    tables.sort_by_key(|table| table.rows);
    Ok(tables)
}

/// What a copy has in each column of a table.
async fn columns(database: &mut PgConnection, table: &str) -> Result<Vec<(String, String)>> {
    let columns: Vec<(String, String, bool, bool)> = sqlx::query_as(
        "SELECT quote_ident(attname), atttypid::regtype::text,
            attidentity <> '' OR attgenerated <> '' OR pg_get_expr(adbin, adrelid) LIKE 'nextval(%' IS TRUE,
            EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indisunique AND indkey::text = attnum::text)
         FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
    )
    .bind(table)
    .fetch_all(database)
    .await?;
    let mut copied = Vec::with_capacity(columns.len());
    for (column, kind, is_counted, is_unique) in columns {
        let becomes = match (column.as_str(), kind.as_str()) {
            _ if is_counted => continue,
            ("task_id", _) => "copy.task_id".to_owned(),
            (_, "bytea") if is_unique => {
                format!("sha256(convert_to(copy.task_id::text, 'UTF8') || original.{column})")
            }
            _ if is_unique => bail!("{table}.{column} is unique, and nobody knows how to copy it"),
            _ => format!("original.{column}"),
        };
        copied.push((column, becomes));
    }
    Ok(copied)
}

/// Gives each copy its id, as the mesh would have done: one each millisecond until now.
async fn name_copies(database: &mut PgConnection, tasks: i64) -> Result<()> {
    let copies = sqlx::query(
        "INSERT INTO bulk.copies
         SELECT copy.nth, sample.task_id,
            (lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint - $1 + copy.nth), 12, '0')
                || '7' || substr(md5(copy.nth::text), 1, 3)
                || '8' || substr(md5(copy.nth::text), 4, 15))::uuid
         FROM generate_series(1, $1) AS copy (nth) JOIN bulk.sample ON sample.nth = 1 + copy.nth % $2",
    );
    sqlx::raw_sql(
        "CREATE UNLOGGED TABLE bulk.copies (nth bigint PRIMARY KEY, original uuid, task_id uuid)",
    )
    .execute(&mut *database)
    .await?;
    copies.bind(tasks).bind(SAMPLES).execute(&mut *database).await?;
    sqlx::raw_sql("ANALYZE bulk.copies").execute(&mut *database).await?;
    Ok(())
}

/// Writes table after table, as long as there are any. Returns how many rows it wrote.
async fn write(url: &str, tables: &Mutex<Vec<Table>>, tasks: i64) -> Result<u64> {
    let mut database = PgConnection::connect(url).await?;
    sqlx::raw_sql(
        "SET session_replication_role = replica; SET synchronous_commit = off; SET work_mem = '128MB'",
    )
    .execute(&mut database)
    .await?;
    let next = || tables.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut written = 0;
    while let Some(Table { name, columns, .. }) = next() {
        let (into, from): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        // In the order in which the mesh would have written them.
        let insert = format!(
            "INSERT INTO {name} ({}) SELECT {} FROM bulk.copies AS copy
             JOIN bulk.{name} AS original ON original.task_id = copy.original
             WHERE copy.nth > $1 AND copy.nth <= $2 ORDER BY copy.nth, original.ctid",
            into.join(", "),
            from.join(", ")
        );
        for chunk in 0..(tasks + CHUNK - 1) / CHUNK {
            let chunk = sqlx::query(AssertSqlSafe(insert.clone()))
                .bind(chunk * CHUNK)
                .bind((chunk + 1) * CHUNK)
                .execute(&mut database)
                .await
                .with_context(|| name.clone())?;
            written += chunk.rows_affected();
        }
    }
    database.close().await?;
    Ok(written)
}
