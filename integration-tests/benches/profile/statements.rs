//! What each statement costs, by `pg_stat_statements`.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, FromRow, PgPool};

/// Begins every statement of this program, which are left out.
pub const OURS: &str = "/* profile */";

/// How many are shown.
const SHOWN: i64 = 25;

/// Since [`Statements::forget`], the most expensive first.
#[derive(Debug)]
pub struct Statements(Vec<Statement>);

#[derive(Debug, FromRow)]
struct Statement {
    query: String,
    toplevel: bool,
    calls: i64,
    total_ms: f64,
    rows: i64,
    wal_bytes: f64,
    wal_records: i64,
    full_pages: i64,
    blocks_hit: i64,
    blocks_dirtied: i64,
}

impl Statements {
    pub async fn forget(looking: &PgPool) -> Result<()> {
        let statement = format!("{OURS} SELECT pg_stat_statements_reset()::text");
        sqlx::query(AssertSqlSafe(statement)).execute(looking).await?;
        Ok(())
    }

    pub async fn read(looking: &PgPool) -> Result<Self> {
        let statement = format!(
            "{OURS} SELECT query, toplevel, calls, total_exec_time AS total_ms, rows,
                wal_bytes::float8, wal_records, wal_fpi AS full_pages,
                shared_blks_hit AS blocks_hit, shared_blks_dirtied AS blocks_dirtied
            FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND query NOT LIKE $1
            ORDER BY total_exec_time DESC LIMIT $2"
        );
        let read = sqlx::query_as(AssertSqlSafe(statement)).bind(format!("{OURS}%")).bind(SHOWN);
        Ok(Self(read.fetch_all(looking).await?))
    }

    pub fn print(&self, steps: usize) {
        let names = Names::read();
        println!("\nStatements, by their time in the server; \"+\" runs within another");
        println!(
            "{:42} {:>8} {:>10} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>9} {:>9}",
            "",
            "calls",
            "calls/step",
            "mean ms",
            "ms/step",
            "rows/call",
            "WAL/step",
            "WAL/call",
            "records",
            "hit/call",
            "dirt/call"
        );
        let steps = steps as f64;
        for it in &self.0 {
            let calls = it.calls.max(1) as f64;
            let name = names.of(&it.query);
            let name = if it.toplevel { name } else { format!("+ {name}") };
            let full = if it.full_pages > 0 {
                format!("  {} full pages", it.full_pages)
            } else {
                String::new()
            };
            println!(
                "{:42} {:>8} {:>10.3} {:>8.3} {:>8.4} {:>9.2} {:>8.0} {:>9.0} {:>7.1} {:>9.1} {:>9.2}{full}",
                shortened(&name, 42),
                it.calls,
                calls / steps,
                it.total_ms / calls,
                it.total_ms / steps,
                it.rows as f64 / calls,
                it.wal_bytes / steps,
                it.wal_bytes / calls,
                it.wal_records as f64 / calls,
                it.blocks_hit as f64 / calls,
                it.blocks_dirtied as f64 / calls,
            );
        }
        let top = self.0.iter().filter(|it| it.toplevel);
        let (calls, ms) =
            top.fold((0, 0.0), |(calls, ms), it| (calls + it.calls, ms + it.total_ms));
        println!(
            "{:42} {calls:>8} {:>10.3} {:>8} {:>8.4}",
            "all",
            calls as f64 / steps,
            "",
            ms / steps
        );
    }
}

/// Names of statements: of the store's, their files.
#[derive(Debug)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// By the first line of each file, which says what it does.
    pub fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../libs/store/sql");
        let mut names = BTreeMap::new();
        if let Err(error) = gather(&folder, "", &mut names) {
            eprintln!("statements are shown without their files: {error:#}");
        }
        Self(names)
    }

    /// For example `steps/complete`; else its beginning on one line.
    pub fn of(&self, query: &str) -> String {
        let first = query.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
        let known = self.0.get(first).cloned();
        known.unwrap_or_else(|| query.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn gather(folder: &Path, prefix: &str, names: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = if prefix.is_empty() { name.into_owned() } else { format!("{prefix}/{name}") };
        if path.is_dir() {
            gather(&path, &name, names)?;
        } else {
            let text = fs::read_to_string(&path)?;
            if let Some(line) = text.lines().find(|line| !line.trim().is_empty()) {
                names.insert(line.trim().to_owned(), name);
            }
        }
    }
    Ok(())
}

pub fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}
