//! The settings of a process, without one.

use std::io::Write as _;

use tasker_runtime::config::{Error, REFERENCE, Source};

/// What a process is told by a file and by flags, and by nothing else.
///
/// # Errors
///
/// As [`Source::from_parts`].
///
/// # Panics
///
/// The file cannot be written.
pub fn settings(file: &str, flags: &[&str]) -> Result<Source, Error> {
    let mut written = tempfile::NamedTempFile::new().expect("a file can be made");
    written.write_all(file.as_bytes()).expect("a file can be written");
    let named = format!("--config={}", written.path().display());
    Source::from_parts([named].into_iter().chain(flags.iter().map(ToString::to_string)), [])
}

/// What `load` makes of the reference, which shows every default.
///
/// # Panics
///
/// It is refused.
pub fn reference<C>(load: impl FnOnce(&Source) -> Result<C, Error>) -> C {
    let source = settings(REFERENCE, &[]).expect("the reference can be read");
    load(&source).unwrap_or_else(|error| panic!("the reference is refused: {error}"))
}

/// Checks that `load` refuses each of these fields if it is 0, and says which it was.
///
/// # Panics
///
/// It does not.
pub fn refuses_zero<C>(load: impl Fn(&Source) -> Result<C, Error>, fields: &[&str]) {
    for field in fields {
        let source = settings("", &[&format!("--{field}=0")]).expect("it is a field");
        match load(&source) {
            Ok(_) => panic!("{field} may be 0"),
            Err(error) => assert!(error.to_string().contains(&format!("`{field}`")), "{error}"),
        }
    }
}
