//! Templates: register, validate, read, list.

use futures::Stream;
use tasker_api::v1::{
    GetTemplateRequest, ListTemplatesRequest, PauseTemplateRequest, RegisterTemplateRequest,
    ResumeTemplateRequest, Template, TemplateRef, TemplateViolation, ValidateTemplateRequest,
    template_service_client::TemplateServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::{
    client::{Client, LARGEST_MESSAGE},
    error::Error,
    pages,
    repairs::Operator,
};

fn templates(channel: Channel) -> TemplateServiceClient<Channel> {
    TemplateServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE)
}

impl Client {
    /// Registers a template. The same again is a no-op.
    ///
    /// # Errors
    /// `InvalidArgument`: [`Error::violations`] lists all that is wrong, with paths.
    /// `AlreadyExists`: this version is registered with another definition.
    pub async fn register_template(&self, yaml: impl Into<String>) -> Result<Template, Error> {
        let request = RegisterTemplateRequest { yaml: yaml.into() };
        let rpc = |to, request| async move { templates(to).register_template(request).await };
        self.call(request, rpc).await?.template.ok_or_else(no_template)
    }

    /// Returns what registration would find wrong with a template; empty if nothing.
    ///
    /// # Errors
    /// Only if the mesh cannot answer.
    pub async fn validate_template(
        &self,
        yaml: impl Into<String>,
    ) -> Result<Vec<TemplateViolation>, Error> {
        let request = ValidateTemplateRequest { yaml: yaml.into() };
        let rpc = |to, request| async move { templates(to).validate_template(request).await };
        Ok(self.call(request, rpc).await?.violations)
    }

    /// Returns one template; the newest version if `template` names none.
    ///
    /// # Errors
    /// `NotFound`: no such template or version.
    pub async fn get_template(&self, template: TemplateRef) -> Result<Template, Error> {
        let request = GetTemplateRequest { template: Some(template) };
        let rpc = |to, request| async move { templates(to).get_template(request).await };
        self.call(request, rpc).await?.template.ok_or_else(no_template)
    }

    /// Has no further step begin of tasks made from a template, of all its versions if none is named.
    /// Who asks for it, and why, is kept.
    ///
    /// # Errors
    /// `NotFound`: no such template or version.
    pub async fn pause_template(&self, template: TemplateRef, by: &Operator) -> Result<(), Error> {
        let request = PauseTemplateRequest {
            template: Some(template),
            operator: by.name.clone(),
            reason: by.reason.clone(),
        };
        let rpc = |to, request| async move { templates(to).pause_template(request).await };
        self.call(request, rpc).await.map(|_| ())
    }

    /// Ends a pause, named as it was begun.
    ///
    /// # Errors
    /// `NotFound`: no such template or version.
    pub async fn resume_template(&self, template: TemplateRef, by: &Operator) -> Result<(), Error> {
        let request = ResumeTemplateRequest {
            template: Some(template),
            operator: by.name.clone(),
            reason: by.reason.clone(),
        };
        let rpc = |to, request| async move { templates(to).resume_template(request).await };
        self.call(request, rpc).await.map(|_| ())
    }

    /// Streams the templates that `filter` describes, without their steps.
    pub fn list_templates(
        &self,
        filter: ListTemplatesRequest,
    ) -> impl Stream<Item = Result<Template, Error>> + Send + use<> {
        let client = self.clone();
        pages::items(move |page_token| {
            let (client, request) =
                (client.clone(), ListTemplatesRequest { page_token, ..filter.clone() });
            async move {
                let rpc = |to, request| async move { templates(to).list_templates(request).await };
                let page = client.call(request, rpc).await?;
                Ok((page.templates, page.next_page_token))
            }
        })
    }
}

fn no_template() -> Error {
    Status::internal("the answer holds no template").into()
}
