//! Makes a task of a request: finds the template, checks every field, decides its identity.

use std::sync::Arc;

use tasker_api::{Invalid, field, status, v1};
use tasker_domain::{
    TaskId, Template, TemplateId, identity, identity::Identity, json, template::Violation,
};
use tasker_stage::{Database, store_error};
use tasker_store::{NewTask, Payload, TemplateName};
use tasker_trace::TraceContext;
use tonic::Status;

/// The longest of each, in bytes.
pub const MAX_REQUEST_ID: usize = 128;
const MAX_IDEMPOTENCY_KEY: usize = 256;
const MAX_LABEL: usize = 128;
const MAX_REASON: usize = 1024;
const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;

/// A template, as it was found by a name.
pub struct Found {
    pub name: TemplateName,
    pub id: TemplateId,
    pub template: Arc<Template>,
}

/// The name that a reference gives.
pub fn name(reference: Option<v1::TemplateRef>) -> Result<TemplateName, Status> {
    let Some(reference) = reference else {
        return Err(Invalid::field("template", "name a template").into());
    };
    let v1::TemplateRef { namespace, name, version } = reference;
    let mut invalid = Invalid::new();
    for (path, text) in [("template.namespace", &namespace), ("template.name", &name)] {
        if text.is_empty() || text.contains('\0') {
            invalid.add(path, "name a template");
        }
    }
    if !version.is_empty() && tasker_domain::template::version(&version).is_none() {
        invalid.add(
            "template.version",
            "give a semantic version such as 1.0.0, or nothing for the newest",
        );
    }
    invalid.check()?;
    Ok(TemplateName { namespace, name, version })
}

/// There is no template of that name.
pub fn unknown(name: &TemplateName) -> Status {
    let TemplateName { namespace, name, version } = name;
    let at = if version.is_empty() { String::new() } else { format!("@{version}") };
    status::not_found("template", &format!("{namespace}/{name}{at}"))
}

/// Finds the template that a task is to be made from. Whether it still is the newest, if that was asked
/// for, the task's birth checks.
pub async fn template(
    database: &Database,
    reference: Option<v1::TemplateRef>,
) -> Result<Found, Status> {
    let name = name(reference)?;
    let found = database.store.template_by_name(&name).await;
    match found.inspect_err(|error| database.noticed(error)).map_err(|error| store_error(&error))? {
        Some((id, template)) => Ok(Found { name, id, template }),
        None => Err(unknown(&name)),
    }
}

/// Makes a task of a request, whose context is what the template asks for.
pub fn request(
    found: &Found,
    request: v1::CreateTaskRequest,
    trace: TraceContext,
) -> Result<NewTask, Invalid> {
    let mut invalid = Invalid::new();
    let context = invalid.take(field::payload("context", request.context));
    let request_id = invalid.take(field::text("request_id", request.request_id, MAX_REQUEST_ID));
    let key =
        invalid.take(field::text("idempotency_key", request.idempotency_key, MAX_IDEMPOTENCY_KEY));
    let correlation_id =
        invalid.take(field::text("correlation_id", request.correlation_id, MAX_LABEL));
    let requested_by = invalid.take(field::text("requested_by", request.requested_by, MAX_LABEL));
    let reason = invalid.take(field::text("reason", request.reason, MAX_REASON));
    if !PRIORITIES.contains(&request.priority) {
        invalid.add("priority", format!("{}: give -100 to 100", request.priority));
    }
    if let Some(context) = &context {
        invalid.take(fits(&found.template, &context.content_type, &context.data));
    }
    let identity = match (&context, &key) {
        (Some(context), Some(key)) => {
            invalid.take(identity_of(&found.template, context, key)).flatten()
        }
        _ => None,
    };
    let (Some(context), Some(request_id), Some(idempotency_key)) = (context, request_id, key)
    else {
        return Err(invalid);
    };
    invalid.check()?;
    Ok(NewTask {
        message_id: None,
        task_id: TaskId::new(),
        template_id: found.id.0,
        newest: found.name.is_of_the_newest(),
        steps: found.template.steps.len(),
        repetition: (!request_id.is_empty()).then(|| identity::request_key(&request_id)),
        identity,
        priority: i16::try_from(request.priority).expect("its range has been checked"),
        context: Payload {
            content_type: context.content_type,
            data: context.data,
            metadata: context.metadata,
        },
        idempotency_key,
        correlation_id: correlation_id.unwrap_or_default(),
        requested_by: requested_by.unwrap_or_default(),
        reason: reason.unwrap_or_default(),
        look_after: found.template.lifecycle.first_look(),
        traceparent: trace.traceparent,
        tracestate: trace.tracestate,
    })
}

/// Whether the context is what the template's schema says: if not, everything that is wrong with it.
pub fn fits(template: &Template, content_type: &str, data: &[u8]) -> Result<(), Invalid> {
    let Some(schema) = &template.input_schema else { return Ok(()) };
    let mut invalid = Invalid::new().because("INPUT_SCHEMA_VIOLATION");
    if !field::is_json(content_type) {
        invalid
            .add("context.content_type", "this template has a schema for its context: send JSON");
        return Err(invalid);
    }
    let found = schema.violations("context", data).map_err(|error| {
        Invalid::field("context.data", error.to_string()).because("PAYLOAD_MALFORMED")
    })?;
    for Violation { path, description } in found {
        invalid.add(path, description);
    }
    invalid.check()
}

/// What the template's strategy makes of the context and the caller's key.
fn identity_of(
    template: &Template,
    context: &field::Payload,
    idempotency_key: &str,
) -> Result<Option<identity::Key>, Invalid> {
    let (namespace, name) = (template.namespace.as_str(), template.name.as_str());
    let version = template.version.to_string();
    match template.identity {
        Identity::AlwaysUnique => Ok(None),
        Identity::CallerProvided if idempotency_key.is_empty() => Err(Invalid::field(
            "idempotency_key",
            "this template needs one: it is what tells its tasks apart",
        )),
        Identity::CallerProvided => {
            Ok(Some(identity::caller_key(namespace, name, &version, idempotency_key)))
        }
        Identity::Strict if !context.is_json() => Err(Invalid::field(
            "context.content_type",
            "this template tells its tasks apart by their JSON: send JSON",
        )),
        Identity::Strict => {
            let canonical = json::canonical(&context.data).map_err(|error| {
                Invalid::field("context.data", error.to_string()).because("PAYLOAD_MALFORMED")
            })?;
            Ok(Some(identity::strict_key(namespace, name, &version, &canonical)))
        }
    }
}
