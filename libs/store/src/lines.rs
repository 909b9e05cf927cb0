//! Connections that are kept at hand for the statements of the hot path.
//!
//! The pool asks a connection whether it still lives each time it comes back: a round trip for each
//! statement. Here the one used last is used next, its plans and caches warm, and whether it lives is
//! seen when it is used.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};

use crate::StoreError;

/// Connections of a pool, some of them at hand. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pool: PgPool,
    at_hand: AtHand,
}

/// A bounded stack, so that other users of the pool find connections, too.
#[derive(Clone, Debug)]
struct AtHand {
    idle: Arc<Mutex<Vec<PoolConnection<Postgres>>>>,
    most: usize,
}

/// A connection in use. Dropped without [`Line::done`], as by a caller who has gone, it is closed.
pub(crate) struct Line {
    connection: Option<PoolConnection<Postgres>>,
    at_hand: AtHand,
}

impl Lines {
    /// Keeps at most half of the pool's connections at hand.
    pub(crate) fn new(pool: PgPool, max_connections: u32) -> Self {
        let most = usize::try_from(max_connections / 2).unwrap_or(0);
        Self { pool, at_hand: AtHand { idle: Arc::default(), most } }
    }

    /// The connection that was used last, or one of the pool.
    pub(crate) async fn take(&self) -> Result<Line, StoreError> {
        let connection = match self.at_hand.pop() {
            Some(connection) => connection,
            None => self.pool.acquire().await?,
        };
        Ok(Line { connection: Some(connection), at_hand: self.at_hand.clone() })
    }

    /// Closes what is at hand.
    pub(crate) fn clear(&self) {
        self.at_hand.clear();
    }
}

impl AtHand {
    fn pop(&self) -> Option<PoolConnection<Postgres>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn push(&self, connection: PoolConnection<Postgres>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // More than that go back to their pool.
        if idle.len() < self.most {
            idle.push(connection);
        }
    }

    fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        idle.into_iter().for_each(close);
    }
}

impl Line {
    /// Puts the connection back, if the answer shows that it lives. If not, the others may be dead, too.
    pub(crate) fn done<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        let answer = answer.map_err(StoreError::from);
        if matches!(answer, Err(StoreError::Unavailable(_))) {
            self.at_hand.clear();
        } else if let Some(connection) = self.connection.take() {
            self.at_hand.push(connection);
        }
        answer
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.connection.take().into_iter().for_each(close);
    }
}

/// Closes a connection, and gives its place in the pool back.
fn close(mut connection: PoolConnection<Postgres>) {
    connection.close_on_drop();
}

impl Deref for Line {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("it is given up only at the end")
    }
}

impl DerefMut for Line {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is given up only at the end")
    }
}
