//! `template`: definitions of tasks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Subcommand;
use tasker_client::{
    Client,
    v1::{ListTemplatesRequest, Template, TemplateRef},
};

use crate::{listed, names, operator::By, print, template_ref, view};

/// What may be asked of templates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register templates. Those that are registered already stay as they are.
    Register {
        /// YAML files, registered in this order; the first that is refused ends it.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Say what is wrong with templates, and change nothing.
    Validate {
        /// YAML files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List templates, newest version first.
    List {
        /// Only of this namespace.
        #[arg(long, default_value = "", hide_default_value = true)]
        namespace: String,
        /// Only of this name.
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
    },
    /// Show one template with its definition.
    Get {
        /// Which; its newest version if none is named.
        #[arg(value_name = "NAMESPACE/NAME[@VERSION]", value_parser = template_ref::parse)]
        template: TemplateRef,
    },
    /// Have no further step begin of tasks made from a template; what runs goes on.
    Pause {
        /// Which; all its versions if none is named.
        #[arg(value_name = "NAMESPACE/NAME[@VERSION]", value_parser = template_ref::parse)]
        template: TemplateRef,
        #[command(flatten)]
        by: By,
    },
    /// End a pause, named as it was begun.
    Resume {
        /// Which; the pause of all its versions if none is named.
        #[arg(value_name = "NAMESPACE/NAME[@VERSION]", value_parser = template_ref::parse)]
        template: TemplateRef,
        #[command(flatten)]
        by: By,
    },
}

pub(crate) async fn run(command: Command, client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::Register { files } => register(client, &files, json).await?,
        Command::Validate { files } => return validate(client, files, json).await,
        Command::List { namespace, name } => {
            let filter = ListTemplatesRequest {
                namespace,
                name,
                page_size: 1000,
                ..ListTemplatesRequest::default()
            };
            let templates = client.list_templates(filter);
            listed::show(json, templates, HEADER, row, view::Template::from).await?;
        }
        Command::Get { template } => {
            let template = client.get_template(template).await?;
            if json { print::json(&view::Template::from(template))? } else { show(&template)? }
        }
        Command::Pause { template, by } => {
            client.pause_template(template, &by.into()).await?;
        }
        Command::Resume { template, by } => {
            client.resume_template(template, &by.into()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn register(client: &Client, files: &[PathBuf], json: bool) -> anyhow::Result<()> {
    let mut registered = Vec::with_capacity(files.len());
    let mut refused = None;
    for file in files {
        let name = file.display().to_string();
        match client.register_template(read(file)?).await.context(name) {
            Ok(template) => registered.push(template),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    if json {
        let views: Vec<_> = registered.into_iter().map(view::Template::from).collect();
        print::json(&views)?;
    } else {
        for template in &registered {
            print::line(&names::printable(&names::template(template.r#ref.as_ref())))?;
        }
    }
    refused.map_or(Ok(()), Err)
}

async fn validate(client: &Client, files: Vec<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let mut checked = Vec::with_capacity(files.len());
    for file in files {
        let name = file.display().to_string();
        let violations = client.validate_template(read(&file)?).await.context(name.clone())?;
        checked.push(view::Checked::new(name, violations));
    }
    let all = checked.iter().all(view::Checked::is_valid);
    if json {
        print::json(&checked)?;
    } else {
        for file in &checked {
            if file.is_valid() {
                print::line(&format!("{}: valid", file.file))?;
            }
            for violation in &file.violations {
                eprintln!("{}: {}", file.file, names::printable(&violation.to_string()));
            }
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

const HEADER: [&str; 4] = ["TEMPLATE", "REGISTERED", "DIGEST", "DESCRIPTION"];

fn row(template: &Template) -> [String; 4] {
    [
        names::template(template.r#ref.as_ref()),
        names::time(template.register_time.as_ref()).unwrap_or_default(),
        // Enough to tell two apart.
        template.digest.chars().take(12).collect(),
        template.description.clone(),
    ]
}

fn show(template: &Template) -> std::io::Result<()> {
    print::fields([
        ("template", names::template(template.r#ref.as_ref())),
        ("description", template.description.clone()),
        ("registered", names::time(template.register_time.as_ref()).unwrap_or_default()),
        ("digest", template.digest.clone()),
        ("environment", template.environment.clone()),
    ])?;
    let steps = template.steps.iter();
    let rows = steps.map(|step| {
        let (name, handler, queue) = (&step.name, &step.handler, &step.queue);
        [name.clone(), handler.clone(), queue.clone(), step.dependencies.join(", ")]
    });
    print::line("")?;
    print::table(["STEP", "HANDLER", "QUEUE", "DEPENDENCIES"], rows)?;
    print::line(&format!("\n{}", names::printable(&template.yaml)))
}
