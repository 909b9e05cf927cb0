//! Templates, and what is wrong with files that should be some.

use serde::Serialize;
use tasker_client::v1;

use super::shared::TemplateRef;
use crate::names;

/// See `Template`.
#[derive(Serialize)]
pub(crate) struct Template {
    r#ref: Option<TemplateRef>,
    description: String,
    yaml: String,
    digest: String,
    register_time: Option<String>,
    environment: String,
    steps: Vec<TemplateStep>,
}

impl From<v1::Template> for Template {
    fn from(template: v1::Template) -> Self {
        Self {
            r#ref: template.r#ref.map(Into::into),
            description: template.description,
            yaml: template.yaml,
            digest: template.digest,
            register_time: names::time(template.register_time.as_ref()),
            environment: template.environment,
            steps: template.steps.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Serialize)]
struct TemplateStep {
    name: String,
    handler: String,
    dependencies: Vec<String>,
    queue: String,
    r#type: String,
}

impl From<v1::TemplateStep> for TemplateStep {
    fn from(step: v1::TemplateStep) -> Self {
        let r#type = names::step_type(step.r#type());
        let v1::TemplateStep { name, handler, dependencies, queue, .. } = step;
        Self { name, handler, dependencies, queue, r#type }
    }
}

/// A file of `template validate`.
#[derive(Serialize)]
pub(crate) struct Checked {
    pub(crate) file: String,
    pub(crate) violations: Vec<Violation>,
}

impl Checked {
    pub(crate) fn new(file: String, violations: Vec<v1::TemplateViolation>) -> Self {
        let violation =
            |it: v1::TemplateViolation| Violation { path: it.path, description: it.description };
        Self { file, violations: violations.into_iter().map(violation).collect() }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.violations.is_empty()
    }
}

/// What is wrong, and where.
#[derive(Serialize)]
pub(crate) struct Violation {
    path: String,
    description: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.description)
    }
}
