//! `tasker.v1.StepService`: decodes, reads, encodes.

use std::sync::Arc;

use tasker_api::{
    Invalid, field, page, status, time,
    v1::{
        self, GetStepRequest, GetStepResponse, ListStepsRequest, ListStepsResponse,
        step_service_server::StepService,
    },
};
use tasker_domain::{Ordinal, TaskId, Template, TemplateId};
use tasker_stage::{Database, store_error};
use tasker_store::{StepOutcome, StepRow, StoreError};
use tonic::{Request, Response, Status};

/// The service's answers about steps.
pub struct Steps {
    pub database: Database,
}

#[tonic::async_trait]
impl StepService for Steps {
    async fn get_step(
        &self,
        request: Request<GetStepRequest>,
    ) -> Result<Response<GetStepResponse>, Status> {
        let GetStepRequest { task_id, step_name } = request.into_inner();
        let mut invalid = Invalid::new();
        let task = invalid.take(field::task_id(&task_id));
        if step_name.is_empty() || step_name.contains('\0') {
            invalid.add("step_name", "name a step");
        }
        let Some(task) = task else { return Err(invalid.into()) };
        invalid.check()?;
        let template = self.template_of(task).await?;
        let row = self
            .database
            .store
            .step(task, &step_name)
            .await
            .map_err(|error| self.failed(&error))?;
        let row = row.ok_or_else(|| status::not_found("step", &format!("{task}/{step_name}")))?;
        Ok(Response::new(GetStepResponse { step: Some(step(task, row, &template)) }))
    }

    async fn list_steps(
        &self,
        request: Request<ListStepsRequest>,
    ) -> Result<Response<ListStepsResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let task = invalid.take(field::task_id(&request.task_id));
        let size = invalid.take(page::size(request.page_size));
        let after = invalid.take(page::key::<1>(&request.page_token).and_then(|key| {
            let wrong =
                || Invalid::field("page_token", "give `next_page_token` of the page before");
            key.map(|[ordinal]| ordinal.parse().map(Ordinal).map_err(|_| wrong())).transpose()
        }));
        let (Some(task), Some(size), Some(after)) = (task, size, after) else {
            return Err(invalid.into());
        };
        let template = self.template_of(task).await?;
        let rows = self.database.store.steps(task, after, size + 1).await;
        let mut rows = rows.map_err(|error| self.failed(&error))?;
        let more = rows.len() > usize::try_from(size).expect("a page is small");
        rows.truncate(usize::try_from(size).expect("a page is small"));
        let last = rows.last().filter(|_| more);
        let next_page_token =
            last.map(|row| page::token(&[&row.ordinal.0.to_string()])).unwrap_or_default();
        let steps = rows.into_iter().map(|row| listed(step(task, row, &template))).collect();
        Ok(Response::new(ListStepsResponse { steps, next_page_token }))
    }
}

impl Steps {
    async fn template_of(&self, task: TaskId) -> Result<Arc<Template>, Status> {
        let store = &self.database.store;
        let found = store.templates_of(&[task.0]).await.map_err(|error| self.failed(&error))?;
        let Some((_, template)) = found.first() else {
            return Err(status::not_found("task", &task.to_string()));
        };
        store.template(TemplateId(*template)).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.database.noticed(error);
        store_error(error)
    }
}

fn step(task: TaskId, row: StepRow, template: &Template) -> v1::Step {
    let declared = template.step(row.ordinal);
    let name_of = |ordinal: &Ordinal| template.step(*ordinal).map(|step| step.name.clone());
    v1::Step {
        task_id: task.to_string(),
        name: row.name,
        state: v1::StepState::from(row.state).into(),
        handler: declared.map(|step| step.callable.clone()).unwrap_or_default(),
        dependencies: declared
            .map(|step| step.dependencies.iter().filter_map(name_of).collect())
            .unwrap_or_default(),
        unmet_dependencies: row.unmet_dependencies,
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        retry_time: row.retry_at.map(time::timestamp),
        result: row.outcome.map(outcome),
    }
}

fn outcome(outcome: StepOutcome) -> v1::StepOutcome {
    let (payload, error) = match outcome.result {
        Ok(payload) => {
            let tasker_store::Payload { content_type, data, metadata } = payload;
            (Some(v1::Payload { content_type, data, metadata }), None)
        }
        Err((r#type, message, retryable)) => {
            (None, Some(v1::StepError { r#type, message, retryable }))
        }
    };
    v1::StepOutcome {
        payload,
        error,
        attempt: outcome.attempt,
        time: Some(time::timestamp(outcome.recorded_at)),
    }
}

/// Lists leave out payloads.
fn listed(mut step: v1::Step) -> v1::Step {
    if let Some(result) = &mut step.result {
        result.payload = None;
    }
    step
}
