//! The merged tree, and where each value in it came from.

use std::{
    collections::BTreeMap,
    env,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use figment::{
    Provider,
    error::Kind,
    providers::{Format, Toml},
    value::{Dict, Value},
};
use serde::de::DeserializeOwned;

use super::{Error, Origin, SECTIONS, command_line::CommandLine, text};

/// Where a process finds the values of its fields.
#[derive(Clone, Debug, Default)]
pub struct Source {
    tree: Dict,
    file: Option<PathBuf>,
    /// Of the fields that were given as text, by `section.field`.
    texts: BTreeMap<String, Origin>,
}

impl Source {
    /// Reads the arguments, the environment and the file of this process.
    ///
    /// # Errors
    ///
    /// If help or the version was asked for, the file cannot be read, or a section or a flag is
    /// unknown.
    pub fn from_process() -> Result<Self, Error> {
        let environment = env::vars_os().filter_map(|(variable, value)| {
            Some((variable.into_string().ok()?, value.into_string().ok()?))
        });
        Self::from_parts(env::args().skip(1), environment)
    }

    /// Reads these arguments, without the program's name, and these variables.
    ///
    /// # Errors
    ///
    /// As [`from_process`](Self::from_process).
    pub fn from_parts(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let line = CommandLine::parse(arguments)?;
        let variables: BTreeMap<String, String> = environment.into_iter().collect();
        let named = variables.get("TASKER_CONFIG").filter(|file| !file.is_empty());
        let mut source = Self::default();
        if let Some(file) = line.file.or(named.map(PathBuf::from)) {
            source.read_file(file)?;
        }
        for (variable, value) in variables {
            let name = variable.strip_prefix("TASKER_").filter(|name| name.contains("__"));
            if let Some(name) = name {
                let field = name.to_lowercase().replace("__", ".");
                source.insert(&field, value, Origin::Environment(variable))?;
            }
        }
        for (field, value) in line.fields {
            let flag = format!("--{field}");
            source.insert(&field, value, Origin::Flag(flag))?;
        }
        Ok(source)
    }

    /// Reads one section; fields that are set nowhere have their defaults.
    ///
    /// # Errors
    ///
    /// If a field is unknown or its value does not fit; the error names it and where it came from.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, Error> {
        let mut value = self.tree.get(section).cloned().unwrap_or_else(|| Dict::new().into());
        loop {
            let error = match value.deserialize() {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            if !self.reread(section, &error, &mut value) {
                return Err(self.wrong(section, &error, &value));
            }
        }
    }

    /// Sets `section.field` for this program, stronger than all else.
    ///
    /// # Errors
    ///
    /// If there is no such section.
    pub fn set(&mut self, field: &str, value: impl Into<String>) -> Result<(), Error> {
        self.insert(field, value.into(), Origin::Program)
    }

    /// Whether anything but its default sets `section.field`.
    #[must_use]
    pub fn is_set(&self, field: &str) -> bool {
        self.origin(field).is_some()
    }

    /// The error for a value that can be read but not worked with, with its origin.
    #[must_use]
    pub fn invalid(&self, field: &str, problem: impl Display) -> Error {
        Error::Field {
            field: field.to_owned(),
            problem: problem.to_string(),
            origin: self.origin(field),
        }
    }

    fn read_file(&mut self, path: PathBuf) -> Result<(), Error> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(reason) => return Err(Error::File { path, reason }),
        };
        self.tree = match Toml::string(&text).data() {
            Ok(data) => data.into_values().next().unwrap_or_default(),
            Err(error) => return Err(Error::Syntax { path, problem: error.to_string() }),
        };
        self.file = Some(path);
        let names: Vec<_> = self.tree.keys().cloned().collect();
        names.iter().try_for_each(|section| self.known(section, section))
    }

    /// Puts a text into the tree, in place of what weaker sources said.
    fn insert(&mut self, field: &str, value: String, origin: Origin) -> Result<(), Error> {
        let path: Vec<&str> = field.split('.').collect();
        self.texts.insert(field.to_owned(), origin);
        self.known(path[0], field)?;
        put(&mut self.tree, &path, value.into());
        Ok(())
    }

    fn known(&self, section: &str, field: &str) -> Result<(), Error> {
        if SECTIONS.contains(&section) {
            return Ok(());
        }
        let sections = SECTIONS.join(", ");
        Err(self.invalid(field, format!("there is no section `{section}`, only {sections}")))
    }

    /// Tries a text as what its field expects. False if that is not what is wrong.
    fn reread(&self, section: &str, error: &figment::Error, value: &mut Value) -> bool {
        let Kind::InvalidType(actual, expected) = &error.kind else { return false };
        let Some(found) = text::found(actual) else { return false };
        if !self.texts.contains_key(&format!("{section}.{}", error.path.join("."))) {
            return false;
        }
        match (at(value, &error.path), text::reread(found, expected)) {
            (Some(place), Some(read)) => {
                *place = read;
                true
            }
            _ => false,
        }
    }

    fn wrong(&self, section: &str, error: &figment::Error, value: &Value) -> Error {
        let mut path = vec![section];
        path.extend(error.path.iter().map(String::as_str));
        let problem = match &error.kind {
            Kind::UnknownField(name, known) => {
                if path.last() != Some(&name.as_str()) {
                    path.push(name);
                }
                format!("there is no field `{name}`, only {}", known.join(", "))
            }
            Kind::Message(message) => match value.find_ref(&error.path.join(".")) {
                Some(Value::String(_, text)) => format!("{text:?}: {message}"),
                _ => message.clone(),
            },
            other => other.to_string(),
        };
        self.invalid(&path.join("."), problem)
    }

    fn origin(&self, field: &str) -> Option<Origin> {
        // An item of a list has the origin of the list.
        let given = self.texts.iter().find(|(text, _)| {
            field
                .strip_prefix(text.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        given.map(|(_, origin)| origin.clone()).or_else(|| self.in_file(field))
    }

    fn in_file(&self, field: &str) -> Option<Origin> {
        let (section, rest) = field.split_once('.').unwrap_or((field, ""));
        let value = self.tree.get(section)?;
        let found = rest.is_empty() || value.find_ref(rest).is_some();
        let file: &Path = self.file.as_deref()?;
        found.then(|| Origin::File(file.to_owned()))
    }
}

/// Puts `value` at `path`, in place of whatever stands on the way.
fn put(dict: &mut Dict, path: &[&str], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        dict.insert((*name).to_owned(), value);
        return;
    }
    let mut inner = match dict.remove(*name) {
        Some(Value::Dict(_, inner)) => inner,
        _ => Dict::new(),
    };
    put(&mut inner, rest, value);
    dict.insert((*name).to_owned(), inner.into());
}

/// The value at `path` below `value`.
fn at<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Dict(_, dict) => dict.get_mut(name),
        Value::Array(_, items) => items.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    })
}
