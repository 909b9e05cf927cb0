//! `tasker.v1.TemplateService`: decodes, calls the store, encodes.

use tasker_api::{
    Invalid, field, page, status, time,
    v1::{
        self, GetTemplateRequest, GetTemplateResponse, ListTemplatesRequest, ListTemplatesResponse,
        PauseTemplateRequest, PauseTemplateResponse, RegisterTemplateRequest,
        RegisterTemplateResponse, ResumeTemplateRequest, ResumeTemplateResponse,
        ValidateTemplateRequest, ValidateTemplateResponse,
        template_service_server::TemplateService,
    },
};
use tasker_domain::{Template, template::Violation};
use tasker_stage::{Database, store_error};
use tasker_store::{Registered, StoreError, TemplateRow};
use tonic::{Code, Request, Response, Status};

use crate::{
    pauses::{self, Pauses},
    resolve,
};

/// The service's answers about templates.
pub struct Templates {
    pub database: Database,
    pub pauses: Pauses,
    /// Where templates are registered.
    pub environment: String,
}

#[tonic::async_trait]
impl TemplateService for Templates {
    async fn register_template(
        &self,
        request: Request<RegisterTemplateRequest>,
    ) -> Result<Response<RegisterTemplateResponse>, Status> {
        let yaml = request.into_inner().yaml;
        let environment = &self.environment;
        let template = parse(environment.clone(), yaml.clone()).await?.map_err(refusal)?;
        let registered = self.database.store.register_template(&template, &yaml, environment).await;
        match registered.map_err(|error| self.failed(&error))? {
            Registered::As(row) => {
                let template = Some(described(*row, &template));
                Ok(Response::new(RegisterTemplateResponse { template }))
            }
            Registered::Otherwise => {
                let Template { namespace, name, version, .. } = &template;
                Err(status::with_reason(
                    Code::AlreadyExists,
                    "TEMPLATE_VERSION_EXISTS",
                    [("template", format!("{namespace}/{name}@{version}"))],
                    format!(
                        "{namespace}/{name}@{version} is registered with another definition: raise the version"
                    ),
                ))
            }
        }
    }

    async fn validate_template(
        &self,
        request: Request<ValidateTemplateRequest>,
    ) -> Result<Response<ValidateTemplateResponse>, Status> {
        let found = parse(self.environment.clone(), request.into_inner().yaml)
            .await?
            .err()
            .unwrap_or_default();
        let violation =
            |Violation { path, description }| v1::TemplateViolation { path, description };
        let violations = found.into_iter().map(violation).collect();
        Ok(Response::new(ValidateTemplateResponse { violations }))
    }

    async fn get_template(
        &self,
        request: Request<GetTemplateRequest>,
    ) -> Result<Response<GetTemplateResponse>, Status> {
        let name = resolve::name(request.into_inner().template)?;
        let store = &self.database.store;
        let row = store.find_template(&name).await.map_err(|error| self.failed(&error))?;
        let row = row.ok_or_else(|| resolve::unknown(&name))?;
        let template = store.template(row.template_id).await;
        let template = template.map_err(|error| self.failed(&error))?;
        Ok(Response::new(GetTemplateResponse { template: Some(described(row, &template)) }))
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let size = invalid.take(page::size(request.page_size));
        let after = invalid.take(page::key::<3>(&request.page_token)).flatten();
        let namespace = invalid.take(field::text("namespace", request.namespace, 128));
        let name = invalid.take(field::text("name", request.name, 128));
        let (Some(size), Some(namespace), Some(name)) = (size, namespace, name) else {
            return Err(invalid.into());
        };
        invalid.check()?;
        let after = after.map(|[namespace, name, precedence]| (namespace, name, precedence));
        let rows =
            self.database.store.list_templates(&namespace, &name, after.as_ref(), size + 1).await;
        let mut rows = rows.map_err(|error| self.failed(&error))?;
        let more = rows.len() > usize::try_from(size).expect("a page is small");
        rows.truncate(usize::try_from(size).expect("a page is small"));
        let last = rows.last().filter(|_| more);
        let next_page_token = last
            .map(|row| page::token(&[&row.namespace, &row.name, &row.precedence]))
            .unwrap_or_default();
        let mut templates = Vec::with_capacity(rows.len());
        for row in rows {
            let template = self.database.store.template(row.template_id).await;
            let template = template.map_err(|error| self.failed(&error))?;
            templates.push(v1::Template {
                steps: Vec::new(),
                yaml: String::new(),
                ..described(row, &template)
            });
        }
        Ok(Response::new(ListTemplatesResponse { templates, next_page_token }))
    }

    async fn pause_template(
        &self,
        request: Request<PauseTemplateRequest>,
    ) -> Result<Response<PauseTemplateResponse>, Status> {
        let PauseTemplateRequest { template, operator, reason } = request.into_inner();
        let template = resolve::name(template)?;
        let by = pauses::by_hand(operator, reason)?;
        self.pauses.pause_template(&template, &by).await?;
        Ok(Response::new(PauseTemplateResponse {}))
    }

    async fn resume_template(
        &self,
        request: Request<ResumeTemplateRequest>,
    ) -> Result<Response<ResumeTemplateResponse>, Status> {
        let ResumeTemplateRequest { template, operator, reason } = request.into_inner();
        let template = resolve::name(template)?;
        let by = pauses::by_hand(operator, reason)?;
        self.pauses.resume_template(&template, &by).await?;
        Ok(Response::new(ResumeTemplateResponse {}))
    }
}

impl Templates {
    fn failed(&self, error: &StoreError) -> Status {
        self.database.noticed(error);
        store_error(error)
    }
}

/// Parses off the threads that answer calls: a large definition takes a while.
async fn parse(
    environment: String,
    yaml: String,
) -> Result<Result<Template, Vec<Violation>>, Status> {
    tokio::task::spawn_blocking(move || Template::parse_in(&environment, &yaml))
        .await
        .map_err(|_| status(tasker_domain::ErrorKind::Internal, "the definition could not be read"))
}

fn refusal(found: Vec<Violation>) -> Status {
    let mut invalid = Invalid::new().because("TEMPLATE_INVALID");
    for Violation { path, description } in found {
        invalid.add(if path.is_empty() { "yaml".to_owned() } else { path }, description);
    }
    invalid.into()
}

fn described(row: TemplateRow, template: &Template) -> v1::Template {
    let name_of = |ordinal: &tasker_domain::Ordinal| {
        template.step(*ordinal).map(|step| step.name.clone()).unwrap_or_default()
    };
    let step = |step: &tasker_domain::template::Step| v1::TemplateStep {
        name: step.name.clone(),
        handler: step.callable.clone(),
        dependencies: step.dependencies.iter().map(name_of).collect(),
        queue: step.queue.clone(),
        r#type: v1::StepType::from(step.kind).into(),
    };
    v1::Template {
        r#ref: Some(v1::TemplateRef {
            namespace: row.namespace,
            name: row.name,
            version: row.version,
        }),
        description: template.description.clone(),
        yaml: row.yaml,
        environment: row.environment,
        digest: row.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        register_time: Some(time::timestamp(row.registered_at)),
        steps: template.steps.iter().map(step).collect(),
    }
}
