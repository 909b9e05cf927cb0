//! What a statement may come to.

use tasker_domain::ErrorKind;

/// A statement did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or is too busy: nothing was done, or nobody can know.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// Another row has the key.
    #[error("another row has the key: {constraint}")]
    Conflict {
        /// The constraint's name, which reads as the rule.
        constraint: String,
    },
    /// A row that this code could not have written.
    #[error("a row of {table} is corrupt: {what}")]
    Corrupt {
        /// Where it lies.
        table: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The database was made for another edition of this code.
    #[error("{0}")]
    OtherSchema(String),
    /// PGMQ could not be installed.
    #[error("PGMQ is missing")]
    Pgmq(#[from] tasker_pgmq::InstallError),
    /// A statement failed in a way that it should not.
    #[error("a statement failed")]
    Statement(#[source] sqlx::Error),
}

impl StoreError {
    /// What kind of thing it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Conflict { .. } => ErrorKind::AlreadyExists,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::OtherSchema(_) | Self::Pgmq(_) | Self::Statement(_) => ErrorKind::Internal,
        }
    }

    /// Whether the fault lies with the database and not with an item of the batch.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(database) => {
                // https://www.postgresql.org/docs/current/errcodes-appendix.html
                match database.code().as_deref() {
                    Some("23505") => Self::Conflict {
                        constraint: database.constraint().unwrap_or_default().to_owned(),
                    },
                    // Connection, resources, operator intervention; serialization and deadlock.
                    Some(code)
                        if ["08", "53", "57"].contains(&code.get(..2).unwrap_or_default())
                            || ["40001", "40P01", "25006", "55P03"].contains(&code) =>
                    {
                        Self::Unavailable(error)
                    }
                    _ => Self::Statement(error),
                }
            }
            _ => Self::Statement(error),
        }
    }
}
