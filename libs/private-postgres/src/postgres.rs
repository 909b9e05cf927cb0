//! The handle of a private cluster.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions,
};

use crate::{
    Error, Settings,
    address::Address,
    server::{Life, Mode, Server},
};

/// PostgreSQL's code for a database that exists already.
const DUPLICATE_DATABASE: &str = "42P04";

/// A private PostgreSQL server. Dropping it stops the server and waits for its end, unless it is
/// shared.
#[derive(Debug)]
pub struct PrivatePostgres {
    address: Address,
    data_dir: PathBuf,
    server: Arc<Mutex<Server>>,
}

impl PrivatePostgres {
    /// Starts the cluster, making it first if there is none, and returns when it takes connections.
    ///
    /// A server that a killed starter left is stopped first.
    ///
    /// # Errors
    ///
    /// Says what is missing or in the way, and what to do; a running process that has this cluster
    /// is named.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        Self::run(settings, Life::WithUs).await
    }

    /// Joins the server on this cluster, or starts one that runs on when we end.
    ///
    /// Any number of processes may call this at once; one starts, the others wait for it. The
    /// server runs until somebody stops it: [`stop`](Self::stop), or a signal to its process.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn share(settings: Settings) -> Result<Self, Error> {
        Self::run(settings, Life::Shared).await
    }

    async fn run(settings: Settings, life: Life) -> Result<Self, Error> {
        let server = blocking(move || Server::start(settings, life)).await?;
        let (address, data_dir) = (server.address.clone(), server.data_dir.clone());
        Ok(Self { address, data_dir, server: Arc::new(Mutex::new(server)) })
    }

    /// The URL of a database, by the unix socket: the quicker way, for programs on this machine
    /// that run as the same user or as root.
    pub fn url(&self, database: &str) -> String {
        self.address.socket_url(database)
    }

    /// The URL of a database, by loopback TCP with the password: a secret.
    pub fn tcp_url(&self, database: &str) -> String {
        self.address.tcp_url(database)
    }

    /// The loopback TCP port.
    pub fn port(&self) -> u16 {
        self.address.port
    }

    /// Where the cluster really lives: the folder asked for, or the one it links to.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Makes a database; an existing one is left as it is.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or refuses the name.
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        let made = self.execute(statement).await;
        let code = made.as_ref().err().and_then(sqlx::Error::as_database_error);
        if code.is_some_and(|error| error.code().as_deref() == Some(DUPLICATE_DATABASE)) {
            return Ok(());
        }
        made.map_err(|source| Error::Database { doing: "make a database", source })
    }

    async fn execute(&self, statement: String) -> Result<(), sqlx::Error> {
        let options: PgConnectOptions = self.url("postgres").parse()?;
        let mut connection: PgConnection = options.disable_statement_logging().connect().await?;
        connection.execute(AssertSqlSafe(statement)).await?;
        connection.close().await
    }

    /// Stops the server, cutting every connection, and starts it again at the same address. Also
    /// starts it after a [`stop`](Self::stop) or [`kill`](Self::kill).
    ///
    /// # Errors
    ///
    /// When the server does not stop or start. It may be tried again.
    pub async fn restart(&self) -> Result<(), Error> {
        self.with_server(Server::restart).await
    }

    /// Stops the server as a crash would: nothing is written out, the next start recovers.
    ///
    /// # Errors
    ///
    /// When the server does not end.
    pub async fn kill(&self) -> Result<(), Error> {
        self.with_server(|server| server.stop(Mode::Immediate)).await
    }

    /// Stops the server, cutting every connection, and waits for its end. A stopped one stays so.
    ///
    /// # Errors
    ///
    /// When the server does not end.
    pub async fn stop(&self) -> Result<(), Error> {
        self.with_server(|server| server.stop(Mode::Fast)).await
    }

    async fn with_server<F>(&self, act: F) -> Result<(), Error>
    where
        F: FnOnce(&mut Server) -> Result<(), Error> + Send + 'static,
    {
        let server = Arc::clone(&self.server);
        blocking(move || act(&mut server.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

/// Runs what waits for other processes, away from the async threads.
async fn blocking<T, F>(act: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
