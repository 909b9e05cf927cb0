//! What is wrong with a configuration, and how to put it right.

use std::{fmt, io, path::PathBuf, process::ExitCode};

use super::REFERENCE;

/// The exit code of a process whose configuration is wrong.
const USAGE: u8 = 64;

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `--help` was given: nothing is wrong.
    #[error("help was asked for")]
    Help,
    /// `--version` was given: nothing is wrong.
    #[error("the version was asked for")]
    Version,
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}", path = .path.display())]
    File {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not a TOML file: {problem}", path = .path.display())]
    Syntax {
        /// As it was given.
        path: PathBuf,
        /// Line, column and reason.
        problem: String,
    },
    /// An argument is no flag.
    #[error(
        "`{argument}` {problem}; \
         flags are --config FILE, --help, --version and --<section>.<field>=<value>"
    )]
    Argument {
        /// As it was given.
        argument: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A field has a wrong value, or there is no such field.
    #[error("{}", wrong_field(.field, .problem, .origin.as_ref()))]
    Field {
        /// As `section.field`.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// Where its value came from, if it is not the default.
        origin: Option<Origin>,
    },
}

/// Where the value of a field came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The configuration file.
    File(PathBuf),
    /// This variable.
    Environment(String),
    /// This flag.
    Flag(String),
    /// The program itself.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Environment(variable) => write!(f, "the variable {variable}"),
            Self::Flag(flag) => write!(f, "the flag {flag}"),
            Self::Program => f.write_str("the program"),
        }
    }
}

impl Error {
    /// `field`, as `section.field`, has a value that the service cannot work with.
    ///
    /// [`Source::invalid`](super::Source::invalid) also says where it came from.
    #[must_use]
    pub fn invalid(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self::Field { field: field.into(), problem: problem.to_string(), origin: None }
    }

    /// Tells the user, and returns how the process ends: 0 after help or version, else 64.
    #[must_use]
    pub fn report(&self, service: &str) -> ExitCode {
        match self {
            Self::Help => print!("{}", help(service)),
            Self::Version => println!("tasker-{service} {}", env!("CARGO_PKG_VERSION")),
            wrong => {
                eprintln!("tasker-{service}: {wrong}");
                return ExitCode::from(USAGE);
            }
        }
        ExitCode::SUCCESS
    }
}

fn help(service: &str) -> String {
    format!(
        "Usage: tasker-{service} [--config FILE] [--<section>.<field>=<value>]…
       tasker-{service} --help | --version

A field is set, the later the stronger, by
  a file:           --config FILE or TASKER_CONFIG=FILE, TOML as below
  the environment:  TASKER_<SECTION>__<FIELD>=<value>, as in TASKER_DATABASE__MAX_CONNECTIONS=4
  a flag:           --<section>.<field>=<value>, as in --database.max_connections=4
Lists are written as a,b or [\"a\", \"b\"].

{REFERENCE}"
    )
}

fn wrong_field(field: &str, problem: &str, origin: Option<&Origin>) -> String {
    let origin = origin.map(|origin| format!(" (from {origin})")).unwrap_or_default();
    let wrong = format!("`{field}` is wrong: {problem}{origin}");
    // Something that does not exist cannot be set either.
    let exists = !problem.starts_with("there is no");
    let Some((section, name)) = field.split_once('.').filter(|_| exists) else {
        return wrong;
    };
    let variable = field.to_uppercase().replace('.', "__");
    [
        wrong,
        format!("  in a file:           [{section}] {name} = …"),
        format!("  in the environment:  TASKER_{variable}=…"),
        format!("  as a flag:           --{field}=…"),
    ]
    .join("\n")
}
