//! Runs tasks again from a step on, as new tasks: decodes, calls the verb, encodes.

use std::sync::Arc;

use tasker_api::{
    Invalid, field, status,
    v1::{RerunTaskRequest, RerunTaskResponse, TemplateRef},
};
use tasker_domain::{
    TaskId, Template, TemplateId, identity,
    rerun::{Birth, births},
};
use tasker_stage::{Database, Hints, purged, said, store_error};
use tasker_store::{Older, Payload, ReadyStep, Rerun, StoreError, ToRerun};
use tasker_trace::TraceContext;
use tonic::Status;

use crate::{
    backlog::Backlog,
    resolve::{self, MAX_REQUEST_ID},
};

/// How often a request is tried while its repeat is worked off at the same moment.
const TRIES: u32 = 3;

/// Has tasks run again.
pub struct Reruns {
    pub database: Database,
    pub backlog: Backlog,
    pub step_enqueuer: Hints<ReadyStep>,
}

impl Reruns {
    pub async fn rerun(
        &self,
        request: RerunTaskRequest,
        trace: TraceContext,
    ) -> Result<RerunTaskResponse, Status> {
        let task_id = request.task_id.clone();
        let item = read(request, trace)?;
        let template = self.template_of(item.rerun_of).await?;
        if let Some(context) = &item.context {
            resolve::fits(&template, &context.content_type, &context.data)?;
        }
        // What an operator asks for does not give way, but comes up to the bound.
        self.backlog.admit(&template.namespace, 0)?;
        match self.try_to(&item, &template).await.map_err(|error| self.failed(&error))? {
            Rerun::Born(ready) => {
                self.step_enqueuer.tell(ready);
                let Template { namespace, name, version, .. } = &*template;
                let (namespace, name) = (namespace.clone(), name.clone());
                let template = TemplateRef { namespace, name, version: version.to_string() };
                let task_id = item.task_id.to_string();
                Ok(RerunTaskResponse { task_id, template: Some(template) })
            }
            Rerun::Repeated(known) => self.first_answer(known).await,
            Rerun::NoStep => Err(status::not_found("step", &format!("{task_id}/{}", item.from))),
            Rerun::Purged => Err(purged(item.rerun_of)),
        }
    }

    async fn try_to(&self, item: &ToRerun, template: &Template) -> Result<Rerun, StoreError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.database.store.rerun_task(item, |older| born(template, older)).await {
                // Another replica was first, and has committed: the next look finds its task.
                Err(StoreError::Conflict { .. }) if tries > 0 => {}
                done => return done,
            }
        }
    }

    async fn template_of(&self, task: TaskId) -> Result<Arc<Template>, Status> {
        let store = &self.database.store;
        let found = store.templates_of(&[task.0]).await.map_err(|error| self.failed(&error))?;
        let Some((_, template)) = found.first() else {
            return Err(status::not_found("task", &task.to_string()));
        };
        store.template(TemplateId(*template)).await.map_err(|error| self.failed(&error))
    }

    async fn first_answer(&self, task: TaskId) -> Result<RerunTaskResponse, Status> {
        let row = self.database.store.task(task).await.map_err(|error| self.failed(&error))?;
        let row = row.ok_or_else(|| status::not_found("task", &task.to_string()))?;
        let template = tasker_stage::wire::task(row).template;
        Ok(RerunTaskResponse { task_id: task.to_string(), template })
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.database.noticed(error);
        store_error(error)
    }
}

fn born(template: &Template, older: &Older) -> Result<Vec<Birth>, StoreError> {
    let chosen = said::choices(&older.said)?;
    Ok(births(template, older.from, &older.steps, &chosen))
}

/// Reads a request, but for its step: whether there is one, the older task says.
fn read(request: RerunTaskRequest, trace: TraceContext) -> Result<ToRerun, Invalid> {
    let mut invalid = Invalid::new();
    let rerun_of = invalid.take(field::task_id(&request.task_id));
    if request.from_step.is_empty() {
        invalid.add("from_step", "name a step");
    }
    let context = request.context.map(|context| field::payload("context", Some(context)));
    let context = invalid.take(context.transpose());
    let request_id = invalid.take(field::text("request_id", request.request_id, MAX_REQUEST_ID));
    let requested_by = request.operator.clone();
    let by = invalid.take(field::operator(request.operator, request.reason));
    let (Some(rerun_of), Some(context), Some(request_id), Some(by)) =
        (rerun_of, context, request_id, by)
    else {
        return Err(invalid);
    };
    invalid.check()?;
    Ok(ToRerun {
        rerun_of,
        task_id: TaskId::new(),
        from: request.from_step,
        context: context.map(|field::Payload { content_type, data, metadata }| Payload {
            content_type,
            data,
            metadata,
        }),
        repetition: (!request_id.is_empty()).then(|| identity::request_key(&request_id)),
        requested_by,
        actor: by.actor,
        reason: by.reason,
        traceparent: trace.traceparent,
        tracestate: trace.tracestate,
    })
}
