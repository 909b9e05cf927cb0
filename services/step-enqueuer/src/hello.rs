//! A worker says who it is.

use tasker_api::{DeliveryToken, Invalid, field, v1::Hello};
use tasker_store::Held;

/// The protocol that this server speaks.
const PROTOCOL: i32 = 1;
/// Namespaces, and handlers, that one worker may serve.
const MAX_NAMESPACES: usize = 64;
const MAX_HANDLERS: usize = 1_000;
/// The longest name of a worker, in bytes.
const MAX_WORKER_ID: usize = 128;
/// The most deliveries that one worker may hold.
const MAX_CREDIT: i32 = 10_000;

/// A worker that may take part.
#[derive(Debug)]
pub struct Worker {
    pub worker_id: String,
    pub namespaces: Vec<String>,
    pub handlers: Vec<String>,
    pub credit: usize,
    /// Of what it says it holds: what can be its own, with its token.
    pub held: Vec<(String, DeliveryToken)>,
}

impl Worker {
    /// Checks a `Hello`.
    pub fn read(hello: Hello) -> Result<Self, Invalid> {
        let mut invalid = Invalid::new();
        if hello.protocol_version != PROTOCOL {
            let what = format!("{}: this server speaks {PROTOCOL}", hello.protocol_version);
            invalid.add("hello.protocol_version", what);
        }
        let held = tokens(hello.held);
        let identity = identity("hello", hello.worker_id, hello.namespaces, hello.handlers);
        let credit = invalid.take(credit("hello.credit", hello.credit));
        let Some((worker_id, namespaces, handlers)) = invalid.take(identity) else {
            return Err(invalid);
        };
        let Some(credit) = credit else { return Err(invalid) };
        invalid.check()?;
        Ok(Self { worker_id, namespaces, handlers, credit, held })
    }
}

/// Tokens that are tokens; others cannot be anybody's.
pub fn tokens(held: Vec<String>) -> Vec<(String, DeliveryToken)> {
    held.into_iter().filter_map(|text| text.parse().ok().map(|token| (text, token))).collect()
}

/// What a token names.
pub fn held(token: &DeliveryToken) -> Held {
    Held { task_id: token.task_id, ordinal: token.ordinal, delivery_id: token.delivery_id }
}

/// Checks how much a worker may hold.
pub fn credit(path: &str, credit: i32) -> Result<usize, Invalid> {
    match usize::try_from(credit) {
        Ok(fits) if credit <= MAX_CREDIT => Ok(fits),
        _ => Err(Invalid::field(path, format!("{credit}: give 0 to {MAX_CREDIT}"))),
    }
}

/// Checks who a worker is, and what it can run.
pub fn identity(
    path: &str,
    worker_id: String,
    namespaces: Vec<String>,
    handlers: Vec<String>,
) -> Result<(String, Vec<String>, Vec<String>), Invalid> {
    let at =
        |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    let mut invalid = Invalid::new();
    let name = invalid.take(field::text(&at("worker_id"), worker_id, MAX_WORKER_ID));
    if name.as_deref() == Some("") {
        invalid.add(at("worker_id"), "name the worker");
    }
    for (list, max, what) in
        [(&namespaces, MAX_NAMESPACES, "namespaces"), (&handlers, MAX_HANDLERS, "handlers")]
    {
        if !(1..=max).contains(&list.len()) {
            invalid.add(at(what), format!("{} of them: give 1 to {max}", list.len()));
        }
        for (index, name) in list.iter().enumerate() {
            if !(1..=128).contains(&name.len()) || name.contains('\0') {
                invalid.add(format!("{}[{index}]", at(what)), "give 1 to 128 bytes");
            }
        }
    }
    let Some(name) = name else { return Err(invalid) };
    invalid.check()?;
    Ok((name, unique(namespaces), unique(handlers)))
}

fn unique(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}
