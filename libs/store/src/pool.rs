//! Connections to the database: durable ones, and ones that need not wait for the disk.

use std::{str::FromStr, sync::Arc, time::Duration};

use moka::future::Cache;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tasker_domain::{Template, TemplateId};

use crate::{StoreError, TemplateName, lines::Lines, migrate};

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// Of each of the two kinds.
    pub max_connections: u32,
    /// How long a statement waits for a free connection.
    pub acquire_timeout: Duration,
    /// What the database shows in `pg_stat_activity`.
    pub application_name: String,
}

/// The statements, over pools of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) durable: PgPool,
    pub(crate) durable_lines: Lines,
    /// Commits do not wait for the disk. Only for what a crash of the database may undo: a step's way
    /// to its worker, since the message that caused it is then there again.
    pub(crate) relaxed: PgPool,
    pub(crate) relaxed_lines: Lines,
    pub(crate) templates: Cache<TemplateId, Arc<Template>>,
    /// What names stand for; kept right by who uses it, see [`Store::template_by_name`].
    pub(crate) template_names: Cache<TemplateName, TemplateId>,
}

/// Templates never change; this many are kept at hand.
const TEMPLATES_AT_HAND: u64 = 1_000;

impl Store {
    /// Connects, and checks that the schema is the one that this code was made for.
    ///
    /// # Errors
    /// The URL is no URL, the database cannot be reached, or its schema is another.
    pub async fn connect(options: &Options) -> Result<Self, StoreError> {
        let store = Self::connect_lazy(options)?;
        migrate::check(&store.durable).await?;
        Ok(store)
    }

    /// Like [`Store::connect`], but connects when first used and checks nothing.
    ///
    /// # Errors
    /// The URL is no URL.
    pub fn connect_lazy(options: &Options) -> Result<Self, StoreError> {
        let durable = PgConnectOptions::from_str(&options.url)?
            .application_name(&options.application_name)
            // Planned once: with a plan for each call, planning is most of what a statement costs. And a
            // plan made while a table was small must not scan it when it has grown: neither in its own
            // order nor in that of an index, which a merge does, and which costs no more than a few
            // look-ups if a page is what costs. What moves is in memory: rows are what costs.
            // No statement may hold its locks for ever.
            .options([
                ("enable_seqscan", "off"),
                ("enable_mergejoin", "off"),
                ("seq_page_cost", "0.01"),
                ("random_page_cost", "0.01"),
                ("jit", "off"),
                ("plan_cache_mode", "force_generic_plan"),
                ("client_min_messages", "warning"),
                ("statement_timeout", "30s"),
            ]);
        let relaxed = durable.clone().options([("synchronous_commit", "off")]);
        let pool = |connect| {
            PgPoolOptions::new()
                .max_connections(options.max_connections)
                .acquire_timeout(options.acquire_timeout)
                // A broken connection shows when it is used; asking first costs a round trip each time.
                .test_before_acquire(false)
                .connect_lazy_with(connect)
        };
        let (durable, relaxed) = (pool(durable), pool(relaxed));
        Ok(Self {
            durable_lines: Lines::new(durable.clone(), options.max_connections),
            relaxed_lines: Lines::new(relaxed.clone(), options.max_connections),
            durable,
            relaxed,
            templates: Cache::new(TEMPLATES_AT_HAND),
            template_names: Cache::new(TEMPLATES_AT_HAND),
        })
    }

    /// Asks the database for nothing, to see whether it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.durable).await?;
        Ok(())
    }

    /// The pool, for the PGMQ client.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.durable
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.durable_lines.clear();
        self.relaxed_lines.clear();
        self.durable.close().await;
        self.relaxed.close().await;
    }
}
