//! What the processes and the database have spent.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, FromRow, PgPool};
use tasker_private_postgres::PrivatePostgres;

use crate::statements::OURS;

/// All counters at one time.
#[derive(Debug)]
pub struct Activity {
    /// Of each process, its user and system time so far, in seconds.
    processes: BTreeMap<(String, u32), (f64, f64)>,
    counters: Counters,
}

#[derive(Debug, FromRow)]
struct Counters {
    transactions: i64,
    row_writes: i64,
    wal_bytes: i64,
    wal_syncs: i64,
    wal_sync_ms: f64,
    step_updates: i64,
    step_hot_updates: i64,
}

impl Activity {
    pub async fn read(
        looking: &PgPool,
        postgres: &PrivatePostgres,
        running: &[(String, u32)],
    ) -> Result<Self> {
        let mut processes = BTreeMap::new();
        for (name, id) in running.iter().cloned().chain(servers(looking, postgres).await?) {
            // A backend may have ended since it was listed: its server has its time.
            if let Some(spent) = spent_by(id) {
                processes.insert((name, id), spent);
            }
        }
        // From version 18 on, syncs are counted elsewhere.
        let version = format!("{OURS} SELECT current_setting('server_version_num')::integer");
        let version: i32 = sqlx::query_scalar(AssertSqlSafe(version)).fetch_one(looking).await?;
        let syncs = if version >= 180_000 {
            "(SELECT sum(fsyncs)::bigint AS wal_syncs, sum(fsync_time) AS wal_sync_ms
                FROM pg_stat_io WHERE object = 'wal')"
        } else {
            "(SELECT wal_sync AS wal_syncs, wal_sync_time AS wal_sync_ms FROM pg_stat_wal)"
        };
        let statement = format!(
            "{OURS} SELECT xact_commit + xact_rollback AS transactions,
                tup_inserted + tup_updated + tup_deleted AS row_writes,
                (pg_current_wal_insert_lsn() - '0/0')::bigint AS wal_bytes, syncs.*,
                n_tup_upd AS step_updates, n_tup_hot_upd AS step_hot_updates
            FROM pg_stat_database, {syncs} AS syncs, pg_stat_user_tables
            WHERE datname = current_database() AND schemaname = 'public' AND relname = 'steps'"
        );
        let counters = sqlx::query_as(AssertSqlSafe(statement)).fetch_one(looking).await?;
        Ok(Self { processes, counters })
    }

    pub fn print_counters(&self, before: &Self, steps: usize) {
        let (now, then) = (&self.counters, &before.counters);
        let per_step = |now: i64, then: i64| (now - then) as f64 / steps as f64;
        let syncs = (now.wal_syncs - then.wal_syncs).max(1) as f64;
        let updates = (now.step_updates - then.step_updates).max(1) as f64;
        println!(
            "a step: {:.2} transactions, {:.2} row writes, {:.0} bytes of WAL, {:.3} WAL syncs of {:.3} ms; \
             {:.1} % of the updates of steps were HOT",
            per_step(now.transactions, then.transactions),
            per_step(now.row_writes, then.row_writes),
            per_step(now.wal_bytes, then.wal_bytes),
            per_step(now.wal_syncs, then.wal_syncs),
            (now.wal_sync_ms - then.wal_sync_ms) / syncs,
            100.0 * (now.step_hot_updates - then.step_hot_updates) as f64 / updates,
        );
    }

    pub fn print_processes(&self, before: &Self, steps: usize) {
        let mut groups: BTreeMap<&str, (usize, f64, f64)> = BTreeMap::new();
        for (process, (user, system)) in &self.processes {
            let then = before.processes.get(process).copied().unwrap_or_default();
            let group = groups.entry(&process.0).or_default();
            group.0 += 1;
            group.1 += user - then.0;
            group.2 += system - then.1;
        }
        let all: f64 = groups.values().map(|(_, user, system)| user + system).sum();
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|(_, a), (_, b)| (b.1 + b.2).total_cmp(&(a.1 + a.2)));
        println!("\nProcessor time");
        println!(
            "{:42} {:>9} {:>9} {:>9} {:>11} {:>6}",
            "", "processes", "user s", "system s", "ms/step", "%"
        );
        let in_ms = 1e3 / steps as f64;
        for (name, (count, user, system)) in groups {
            let spent = user + system;
            if spent < 0.005 {
                continue;
            }
            println!(
                "{name:42} {count:>9} {user:>9.2} {system:>9.2} {:>11.4} {:>6.1}",
                spent * in_ms,
                100.0 * spent / all.max(f64::MIN_POSITIVE)
            );
        }
        println!("{:42} {:>9} {:>9} {:>9} {:>11.4}", "all", "", "", "", all * in_ms);
    }
}

/// The processes of the server, by what they do.
pub async fn servers(looking: &PgPool, postgres: &PrivatePostgres) -> Result<Vec<(String, u32)>> {
    let statement = format!(
        "{OURS} SELECT CASE
            WHEN pid = pg_backend_pid() THEN 'postgres for this program'
            WHEN application_name <> '' THEN 'postgres for ' || application_name
            ELSE 'postgres ' || backend_type END, pid
        FROM pg_stat_activity"
    );
    let rows: Vec<(String, i32)> =
        sqlx::query_as(AssertSqlSafe(statement)).fetch_all(looking).await?;
    let mut servers = Vec::new();
    for (name, id) in rows {
        servers.push((name, u32::try_from(id)?));
    }
    servers
        .push(("postgres itself, and ended processes of it".to_owned(), main_process(postgres)?));
    Ok(servers)
}

/// The first process of the server.
fn main_process(postgres: &PrivatePostgres) -> Result<u32> {
    let file = postgres.data_dir().join("postmaster.pid");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    text.lines().next().unwrap_or_default().trim().parse().context("no process number")
}

/// User and system time of a process, and of its children that have ended, in seconds.
fn spent_by(process: u32) -> Option<(f64, f64)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold spaces. The times are the 14th to 17th fields.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth)?.parse::<f64>().ok();
    // Linux tells them in hundredths of a second, whatever the kernel counts in.
    Some(((ticks(11)? + ticks(13)?) / 100.0, (ticks(12)? + ticks(14)?) / 100.0))
}
