//! The statements of `sql/`, and their plans: as they are kept on the connections of the services.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, pool::PoolConnection};
use tasker_store::{Options, Store};
use tasker_testing::TestDatabase;

/// A statement that writes.
pub struct Statement {
    /// `steps/complete`
    pub name: String,
    pub text: String,
}

impl Statement {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let mut found = Vec::new();
        for table in fs::read_dir(folder()).unwrap() {
            let table = table.unwrap().file_name().into_string().unwrap();
            for verb in fs::read_dir(folder().join(&table)).unwrap() {
                let verb = verb.unwrap().path();
                let verb = verb.file_stem().unwrap().to_str().unwrap();
                found.push(Self::named(&format!("{table}/{verb}")));
            }
        }
        found
    }

    pub fn named(name: &str) -> Self {
        let text = fs::read_to_string(folder().join(format!("{name}.sql"))).unwrap();
        Self { name: name.to_owned(), text }
    }

    /// How it is carried out, whatever it is given.
    pub async fn plan(&self, connection: &mut PgConnection) -> Value {
        let run = async |connection: &mut PgConnection, text: String| {
            sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.unwrap_or_else(|error| {
                panic!("{}: {error}", self.name);
            });
        };
        run(connection, format!("PREPARE explained AS {}", self.text)).await;
        let parameters: i32 = sqlx::query_scalar(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'explained'",
        )
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        let given = match parameters {
            0 => String::new(),
            count => format!("({})", vec!["NULL"; count as usize].join(", ")),
        };
        let explain = format!("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE explained {given}");
        let plan = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut *connection).await;
        run(connection, "DEALLOCATE explained".to_owned()).await;
        plan.unwrap()
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/sql"))
}

/// A connection like those of the services.
pub async fn connection(database: &TestDatabase) -> PoolConnection<Postgres> {
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(10),
        application_name: "explained".to_owned(),
    };
    Store::connect(&options).await.unwrap().pool().acquire().await.unwrap()
}
