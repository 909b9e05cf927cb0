//! Ends the server when we end, however we end.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Child, ChildStdin, Stdio},
};

use crate::{Error, binaries::Binaries, error::Doing, owner::Owner, server::Mode};

/// Starts the server, says so, and waits: for a line that says how to stop it, or for our end.
///
/// The kernel closes the pipe when we are killed. Signals of the terminal pass the keeper by. It
/// stops its own server only: by then another starter may have put one in its place.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
"$1" start -s -w -t 60 -D "$2" -l "$3" || exit 1
read -r process < "$2/postmaster.pid" && echo "$process"
read -r mode
read -r now < "$2/postmaster.pid" 2> /dev/null && [ "$now" = "$process" ] || exit 0
exec "$1" stop -s -w -t 60 -D "$2" -m "${mode:-fast}"
"#;

/// The log is begun anew when it has reached this many bytes.
const LONGEST_LOG: u64 = 16 << 20;

/// As much of the log as an error shows, in bytes.
const SHOWN_LOG: u64 = 4096;

/// The process between us and the server.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Keeper {
    /// Starts the server on `data_dir`, and returns when it takes connections.
    pub(crate) fn start(data_dir: &Path, binaries: &Binaries, owner: Owner) -> Result<Self, Error> {
        let log = Log::open(data_dir, owner)?;
        let mut command = owner.command("/bin/sh");
        command.args(["-c", SCRIPT, "tasker-postgres-keeper"]).arg(binaries.program("pg_ctl"));
        command.arg(data_dir).arg(&log.path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().doing("run", "/bin/sh")?;
        let (pipe, said) = (child.stdin.take(), child.stdout.take());
        let keeper = Self { child, pipe };

        let mut process = String::new();
        let said = said.expect("stdout is piped");
        BufReader::new(said).read_line(&mut process).doing("hear of", data_dir)?;
        if process.is_empty() {
            return Err(Error::Failed { program: "postgres", output: log.news() });
        }
        Ok(keeper)
    }

    /// Stops the server, and waits for its end.
    pub(crate) fn stop(mut self, mode: Mode) -> Result<(), Error> {
        if let Some(mut pipe) = self.pipe.take() {
            // A keeper that was killed cannot hear; the caller looks whether the server ended.
            drop(writeln!(pipe, "{}", mode.name()));
        }
        self.child.wait().doing("wait for", "the keeper of the database").map(drop)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.pipe = None;
        if let Err(error) = self.child.wait() {
            tracing::warn!(error = %error, "cannot wait for the keeper of the database");
        }
    }
}

/// The server's log, and where this start begins in it.
pub(crate) struct Log {
    pub(crate) path: std::path::PathBuf,
    begin: u64,
}

impl Log {
    pub(crate) fn open(data_dir: &Path, owner: Owner) -> Result<Self, Error> {
        let path = data_dir.join("server.log");
        let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let begin = if size > LONGEST_LOG { 0 } else { size };
        let file =
            fs::OpenOptions::new().create(true).append(true).open(&path).doing("open", &path)?;
        if begin == 0 {
            file.set_len(0).doing("empty", &path)?;
        }
        owner.take(&path).doing("hand over", &path)?;
        Ok(Self { path, begin })
    }

    /// The end of what the server wrote since.
    pub(crate) fn news(&self) -> String {
        let read = || {
            let mut file = fs::File::open(&self.path)?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.begin.max(size.saturating_sub(SHOWN_LOG))))?;
            let mut text = Vec::new();
            file.read_to_end(&mut text).map(|_| text)
        };
        match read() {
            Ok(text) if !text.is_empty() => String::from_utf8_lossy(&text).trim().to_owned(),
            Ok(_) => "it wrote nothing to its log".to_owned(),
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }
}
