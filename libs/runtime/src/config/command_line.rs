//! Reads the arguments of the process.

use std::path::PathBuf;

use super::Error;

/// What the arguments say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) file: Option<PathBuf>,
    /// Field and value, in the order given.
    pub(super) fields: Vec<(String, String)>,
}

impl CommandLine {
    pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let wrong = |problem| Error::Argument { argument: argument.clone(), problem };
            let flag = match argument.as_str() {
                "--help" | "-h" => return Err(Error::Help),
                "--version" | "-V" => return Err(Error::Version),
                other => other.strip_prefix("--").ok_or_else(|| wrong("is not a flag"))?,
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (flag, arguments.next().ok_or_else(|| wrong("has no value"))?),
            };
            match name {
                "config" => found.file = Some(value.into()),
                field if field.contains('.') => found.fields.push((field.replace('-', "_"), value)),
                _ => return Err(wrong("is not a flag")),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<CommandLine, Error> {
        CommandLine::parse(arguments.iter().map(ToString::to_string))
    }

    #[test]
    fn flags_take_their_value_after_an_equals_sign_or_a_space() {
        let line =
            parse(&["--config", "a b.toml", "--drain.timeout=1s", "--task-request.listen", ":1"]);
        let line = line.unwrap();
        assert_eq!(line.file, Some("a b.toml".into()));
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(line.fields, [field("drain.timeout", "1s"), field("task_request.listen", ":1")]);
    }

    #[test]
    fn what_is_no_flag_is_refused_by_name() {
        for arguments in [&["serve"][..], &["--verbose=1"], &["--drain.timeout"]] {
            let error = parse(arguments).unwrap_err().to_string();
            assert!(error.contains(arguments[0]), "{error}");
        }
        assert!(matches!(parse(&["--help", "nonsense"]), Err(Error::Help)));
        assert!(matches!(parse(&["--version"]), Err(Error::Version)));
    }
}
