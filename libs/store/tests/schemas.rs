//! A program runs on the schema that it was made for, and on one that has only grown since.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use tasker_store::{Options, Store, StoreError, schema_version};
use tasker_testing::TestDatabase;

async fn connect(database: &TestDatabase) -> Result<Store, StoreError> {
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(10),
        application_name: "schemas".to_owned(),
    };
    Store::connect(&options).await
}

async fn change(database: &TestDatabase, statement: &str) {
    let pool = PgPool::connect(database.url()).await.unwrap();
    sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    pool.close().await;
}

/// As a later version's migration does.
async fn migrate_further(database: &TestDatabase) -> i64 {
    let next = schema_version() + 1;
    let migration = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ({next}, 'of the next version', true, 'any', 0)"
    );
    change(database, &migration).await;
    next
}

async fn refusal(database: &TestDatabase) -> String {
    match connect(database).await {
        Err(error @ StoreError::OtherSchema(_)) => error.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[tokio::test]
async fn an_older_schema_is_refused_with_what_to_do() {
    let database = TestDatabase::fresh().await;
    let newest = schema_version();
    change(&database, &format!("DELETE FROM _sqlx_migrations WHERE version = {newest}")).await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains(&format!("without migration {newest}")), "{refusal}");
    assert!(refusal.contains("run `tasker-ctl migrate`"), "{refusal}");
}

#[tokio::test]
async fn a_newer_schema_that_has_only_grown_is_accepted() {
    let database = TestDatabase::fresh().await;
    migrate_further(&database).await;
    connect(&database).await.unwrap();
    // Whoever migrates with the older program finds nothing to do.
    tasker_store::migrate(database.url()).await.unwrap();
}

#[tokio::test]
async fn a_schema_that_has_been_contracted_past_the_program_is_refused() {
    let database = TestDatabase::fresh().await;
    let next = migrate_further(&database).await;
    change(&database, &format!("UPDATE oldest_program SET schema_version = {next}")).await;
    let refused = refusal(&database).await;
    assert!(refused.contains(&format!("schema version {next} and later")), "{refused}");
    assert!(refused.contains("run a newer program"), "{refused}");
    tasker_store::migrate(database.url()).await.unwrap_err();
    // What this version can do without may be taken away.
    let now = schema_version();
    change(&database, &format!("UPDATE oldest_program SET schema_version = {now}")).await;
    connect(&database).await.unwrap();
}

#[tokio::test]
async fn a_schema_of_another_build_is_refused() {
    let database = TestDatabase::fresh().await;
    let newest = schema_version();
    let other = format!("UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = {newest}");
    change(&database, &other).await;
    let refusal = refusal(&database).await;
    assert!(refusal.contains(&format!("migration {newest} of the database")), "{refusal}");
}
