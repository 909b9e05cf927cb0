//! `tasker.v1.StepService`: decodes, reads or calls the verb, encodes.

use std::sync::Arc;

use tasker_api::{
    Invalid,
    field::{self, Operator},
    page, status, time,
    v1::{
        self, CompleteStepRequest, CompleteStepResponse, ExplainStepRequest, ExplainStepResponse,
        ExplainTaskRequest, ExplainTaskResponse, GetStepRequest, GetStepResponse, ListStepsRequest,
        ListStepsResponse, RepairTaskRequest, RepairTaskResponse, RepairTasksRequest,
        RepairTasksResponse, ResetStepRequest, ResetStepResponse, ResolveStepRequest,
        ResolveStepResponse, step_service_server::StepService,
    },
};
use tasker_domain::{Ordinal, StepState, TaskId, Template, TemplateId};
use tasker_stage::{Database, store_error, wire};
use tasker_store::{Readiness, Remedy, StepOutcome, StepRow, StoreError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    explain::Explainer,
    limits,
    repairs::{self, Many, Repairs, Wanted},
    said,
};

/// Steps that are explained in one answer.
const MAX_EXPLAINED: usize = 1000;

/// The service's answers about steps.
pub struct Steps {
    pub database: Database,
    pub repairs: Repairs,
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
        let name = invalid.take(step_name_of(step_name));
        let (Some(task), Some(name)) = (task, name) else { return Err(invalid.into()) };
        Ok(Response::new(GetStepResponse { step: Some(self.step(task, &name).await?) }))
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

    async fn explain_step(
        &self,
        request: Request<ExplainStepRequest>,
    ) -> Result<Response<ExplainStepResponse>, Status> {
        let ExplainStepRequest { task_id, step_name } = request.into_inner();
        let mut invalid = Invalid::new();
        let task = invalid.take(field::task_id(&task_id));
        let name = invalid.take(step_name_of(step_name));
        let (Some(task), Some(name)) = (task, name) else { return Err(invalid.into()) };
        let explanation = self.explain(task, |step| step.name == name, 1).await?.pop();
        let none = || status::not_found("step", &format!("{task}/{name}"));
        let explanation = Some(explanation.ok_or_else(none)?);
        Ok(Response::new(ExplainStepResponse { explanation }))
    }

    async fn explain_task(
        &self,
        request: Request<ExplainTaskRequest>,
    ) -> Result<Response<ExplainTaskResponse>, Status> {
        let task = field::task_id(&request.into_inner().task_id)?;
        let not_done = |step: &Readiness| step.state.is_open() || step.state == StepState::Error;
        let explanations = self.explain(task, not_done, MAX_EXPLAINED).await?;
        Ok(Response::new(ExplainTaskResponse { explanations }))
    }

    async fn reset_step(
        &self,
        request: Request<ResetStepRequest>,
    ) -> Result<Response<ResetStepResponse>, Status> {
        let ResetStepRequest { task_id, step_name, operator, reason } = request.into_inner();
        let by = field::operator(operator, reason);
        let step = self.repair(&task_id, step_name, Ok(Remedy::Reset.into()), by).await?;
        Ok(Response::new(ResetStepResponse { step: Some(step) }))
    }

    async fn resolve_step(
        &self,
        request: Request<ResolveStepRequest>,
    ) -> Result<Response<ResolveStepResponse>, Status> {
        let ResolveStepRequest { task_id, step_name, operator, reason } = request.into_inner();
        let by = field::operator(operator, reason);
        let step = self.repair(&task_id, step_name, Ok(Remedy::Resolve.into()), by).await?;
        Ok(Response::new(ResolveStepResponse { step: Some(step) }))
    }

    async fn complete_step(
        &self,
        request: Request<CompleteStepRequest>,
    ) -> Result<Response<CompleteStepResponse>, Status> {
        let CompleteStepRequest { task_id, step_name, result, operator, reason, expansion } =
            request.into_inner();
        let (wanted, by) = (repairs::result(result, expansion), field::operator(operator, reason));
        let step = self.repair(&task_id, step_name, wanted, by).await?;
        Ok(Response::new(CompleteStepResponse { step: Some(step) }))
    }

    async fn repair_task(
        &self,
        request: Request<RepairTaskRequest>,
    ) -> Result<Response<RepairTaskResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let task = invalid.take(field::task_id(&request.task_id));
        let remedy = invalid.take(repairs::remedy(request.remedy()));
        let by = invalid.take(field::operator(request.operator, request.reason));
        let (Some(task), Some(remedy), Some(by)) = (task, remedy, by) else {
            return Err(invalid.into());
        };
        let step_names = self.repairs.task(task, remedy, by).await?;
        let row = self.database.store.task(task).await.map_err(|error| self.failed(&error))?;
        Ok(Response::new(RepairTaskResponse { task: row.map(wire::task), step_names }))
    }

    type RepairTasksStream = ReceiverStream<Result<RepairTasksResponse, Status>>;

    async fn repair_tasks(
        &self,
        request: Request<RepairTasksRequest>,
    ) -> Result<Response<Self::RepairTasksStream>, Status> {
        let many = Many::read(request.into_inner())?;
        let (told, responses) = mpsc::channel(1);
        let repairs = self.repairs.clone();
        tokio::spawn(async move { repairs.many(many, told).await });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

impl Steps {
    /// Explains the steps that are asked for, so many at most.
    async fn explain(
        &self,
        task: TaskId,
        wanted: impl Fn(&Readiness) -> bool,
        at_most: usize,
    ) -> Result<Vec<v1::StepExplanation>, Status> {
        let store = &self.database.store;
        let template = self.template_of(task).await?;
        let read =
            tokio::try_join!(store.task(task), store.pauses_of(task), store.step_readiness(task));
        let (row, pauses, steps) = read.map_err(|error| self.failed(&error))?;
        let row = row.ok_or_else(|| status::not_found("task", &task.to_string()))?;
        let limits = limits::that_hold(store, task, &template).await;
        let limits = limits.map_err(|error| self.failed(&error))?;
        let explainer = Explainer {
            task,
            state: row.state,
            template: &template,
            pauses: &pauses,
            steps: &steps,
            limits: &limits,
        };
        let wanted = steps.iter().filter(|step| wanted(step)).take(at_most);
        Ok(wanted.map(|step| explainer.explain(step)).collect())
    }

    async fn step(&self, task: TaskId, name: &str) -> Result<v1::Step, Status> {
        let template = self.template_of(task).await?;
        let row = self.database.store.step(task, name).await;
        let row = row.map_err(|error| self.failed(&error))?;
        let row = row.ok_or_else(|| status::not_found("step", &format!("{task}/{name}")))?;
        let said = self.database.store.step_said(task, row.ordinal).await;
        let told = said.and_then(|said| {
            let expanded = said.expansion.as_deref().map(said::expanded).transpose()?;
            Ok((expanded, said.checkpoint.as_ref().map(said::checkpoint).transpose()?))
        });
        let (expanded, checkpoint) = told.map_err(|error| self.failed(&error))?;
        Ok(v1::Step { expanded, checkpoint, ..step(task, row, &template) })
    }

    /// Repairs a step, and returns it as it stands then.
    async fn repair(
        &self,
        task_id: &str,
        step_name: String,
        wanted: Result<Wanted, Invalid>,
        by: Result<Operator, Invalid>,
    ) -> Result<v1::Step, Status> {
        let mut invalid = Invalid::new();
        let task = invalid.take(field::task_id(task_id));
        let name = invalid.take(step_name_of(step_name));
        let (wanted, by) = (invalid.take(wanted), invalid.take(by));
        let (Some(task), Some(name), Some(wanted), Some(by)) = (task, name, wanted, by) else {
            return Err(invalid.into());
        };
        self.repairs.step(task, name.clone(), wanted, by).await?;
        self.step(task, &name).await
    }

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

fn step_name_of(name: String) -> Result<String, Invalid> {
    if name.is_empty() || name.contains('\0') {
        return Err(Invalid::field("step_name", "name a step"));
    }
    Ok(name)
}

fn step(task: TaskId, row: StepRow, template: &Template) -> v1::Step {
    let declared = template.step(row.declared);
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
        expanded: None,
        checkpoint: None,
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
