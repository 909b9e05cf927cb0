//! The server on a cluster: start, stop, start again. Everything here blocks.

use std::path::{Path, PathBuf};

use crate::{
    Error, Settings,
    address::{Address, free_port},
    binaries::Binaries,
    cluster,
    error::Doing,
    keeper::{Keeper, Log},
    lock::Lock,
    owner::Owner,
    place::{SocketDir, settle},
    running::{self, Running},
};

/// How often a start is tried with another free port, each having been taken in between.
const PORTS_TRIED: usize = 3;

/// Whether the server ends with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    WithUs,
    Shared,
}

/// How the server is stopped, in pg_ctl's words.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// Cuts every connection, then writes all to disk.
    Fast,
    /// As if the machine had crashed: the next start recovers from the log.
    Immediate,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// A server of ours. Dropping it stops the server, unless it is shared.
#[derive(Debug)]
pub(crate) struct Server {
    // Dropped in this order: the server ends before its socket's folder goes and the lock is free.
    keeper: Option<Keeper>,
    socket_dir: Option<SocketDir>,
    pub(crate) address: Address,
    pub(crate) data_dir: PathBuf,
    settings: Settings,
    binaries: Binaries,
    owner: Owner,
    life: Life,
    lock: Option<Lock>,
}

impl Server {
    /// Starts the server on its cluster, making that first; a shared one may run already.
    pub(crate) fn start(mut settings: Settings, life: Life) -> Result<Self, Error> {
        settings.data_dir =
            std::path::absolute(&settings.data_dir).doing("find", &settings.data_dir)?;
        let asked = &settings.data_dir;
        let parent = asked.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).doing("make", parent)?;
        let lock = match life {
            Life::WithUs => Lock::take(asked)?,
            Life::Shared => Lock::wait(asked)?,
        };
        let owner = Owner::of(asked)?;
        let data_dir = settle(asked, owner)?;
        let binaries = Binaries::find(&data_dir, owner, &settings.fallback_binaries)?;
        let mut running = Running::on(&data_dir)?;
        if life == Life::WithUs || running.as_ref().is_some_and(|running| !running.ready) {
            // Left by a starter that was killed, or about to end.
            running::stop(&data_dir, &binaries, owner, Mode::Fast)?;
            running = None;
        }
        cluster::make(&data_dir, &settings, &binaries, owner)?;
        let password = cluster::password(&data_dir)?;
        if let Some(Running { port, socket_dir, .. }) = running {
            let address = Address { socket_dir, port, password };
            let (keeper, socket_dir, lock) = (None, None, None);
            return Ok(Self {
                keeper,
                socket_dir,
                address,
                data_dir,
                settings,
                binaries,
                owner,
                life,
                lock,
            });
        }
        let socket_dir = SocketDir::choose(&data_dir, owner)?;
        let address = Address { socket_dir: socket_dir.path().into(), port: 0, password };
        let (keeper, socket_dir, lock) = (None, Some(socket_dir), Some(lock));
        let mut server =
            Self { keeper, socket_dir, address, data_dir, settings, binaries, owner, life, lock };
        server.serve_somewhere()?;
        if life == Life::Shared {
            // Free for the next to join. The socket stays with its server.
            server.lock = None;
            server.socket_dir.take().into_iter().for_each(SocketDir::keep);
        }
        Ok(server)
    }

    /// Serves on the port of the settings, or on any that is free.
    fn serve_somewhere(&mut self) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            match self.serve(free_port(self.settings.port)?) {
                // Somebody took the port between our look and the server's.
                Err(Error::Failed { output, .. })
                    if self.settings.port.is_none()
                        && tries < PORTS_TRIED
                        && output.contains("already in use") =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn serve(&mut self, port: u16) -> Result<(), Error> {
        self.address.port = port;
        cluster::configure(&self.data_dir, &self.settings, &self.address, self.owner)?;
        match self.life {
            Life::WithUs => {
                self.keeper = Some(Keeper::start(&self.data_dir, &self.binaries, self.owner)?);
                Ok(())
            }
            Life::Shared => self.launch(),
        }
    }

    /// Starts a server that nobody keeps.
    fn launch(&self) -> Result<(), Error> {
        let log = Log::open(&self.data_dir, self.owner)?;
        let mut command = self.owner.command(self.binaries.program("pg_ctl"));
        command
            .args(["start", "-s", "-w", "-t", "60", "-D"])
            .arg(&self.data_dir)
            .arg("-l")
            .arg(&log.path);
        let failed = |_| Error::Failed { program: "postgres", output: log.news() };
        cluster::run("postgres", command).map_err(failed)
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&mut self, mode: Mode) -> Result<(), Error> {
        if let Some(keeper) = self.keeper.take() {
            keeper.stop(mode)?;
        }
        // Ours has ended; a shared one, or one whose keeper was killed, has not.
        running::stop(&self.data_dir, &self.binaries, self.owner, mode)
    }

    /// Stops the server if it runs, and starts it again at the same address.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        self.stop(Mode::Fast)?;
        self.serve(free_port(Some(self.address.port))?)
    }
}
