//! What a test may expect of its database.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Connection, Executor, PgConnection};
use tasker_testing::TestDatabase;

static PREPARED: AtomicUsize = AtomicUsize::new(0);

async fn with_a_table() -> TestDatabase {
    let version = std::process::id().to_string();
    TestDatabase::prepared("own_tests", &version, async |url| {
        PREPARED.fetch_add(1, Ordering::Relaxed);
        let mut connection = PgConnection::connect(url).await?;
        connection.execute("CREATE TABLE t (n integer)").await?;
        connection.close().await?;
        Ok(())
    })
    .await
}

async fn rows(database: &TestDatabase) -> i64 {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn two_tests_do_not_see_each_other_and_the_schema_is_made_once() {
    let (one, two) = tokio::join!(with_a_table(), with_a_table());
    let mut connection = PgConnection::connect(one.url()).await.unwrap();
    connection.execute("INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!((rows(&one).await, rows(&two).await), (1, 0));
    assert_eq!(PREPARED.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_fresh_database_has_the_stores_schema_and_no_task() {
    let database = TestDatabase::fresh().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let tasks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tasks").fetch_one(&mut connection).await.unwrap();
    assert_eq!(tasks, 0);
}

#[tokio::test]
async fn an_empty_database_has_no_tables() {
    let database = TestDatabase::empty().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut connection).await.unwrap();
    assert_eq!(tables, 0);
}
