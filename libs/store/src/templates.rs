//! The templates: registered once, never changed, kept at hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use tasker_domain::{Ordinal, Template, TemplateId, expand, template};

use crate::{Store, StoreError, steps::start::worker_queue};

/// A registered template.
#[derive(Debug, Clone)]
pub struct TemplateRow {
    /// Which.
    pub template_id: TemplateId,
    /// Of the definition.
    pub namespace: String,
    /// Of the definition.
    pub name: String,
    /// Of the definition.
    pub version: String,
    /// Sorts as versions do.
    pub precedence: String,
    /// SHA-256 of what the definition says.
    pub digest: Vec<u8>,
    /// The definition as it was registered.
    pub yaml: String,
    /// In which environment; may be empty.
    pub environment: String,
    /// When.
    pub registered_at: DateTime<Utc>,
}

/// What a request calls a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplateName {
    /// Of the definition.
    pub namespace: String,
    /// Of the definition.
    pub name: String,
    /// Of the definition; empty for the newest.
    pub version: String,
}

impl TemplateName {
    /// Whether it stands for the newest version, whichever that is.
    #[must_use]
    pub fn is_of_the_newest(&self) -> bool {
        self.version.is_empty()
    }
}

/// What came of a registration.
#[derive(Debug, Clone)]
pub enum Registered {
    /// It is registered, now or before.
    As(Box<TemplateRow>),
    /// The version is registered with another definition.
    Otherwise,
}

impl Store {
    /// Registers a template as `environment` has it, and creates the queues that its steps go to. The
    /// same again changes nothing, in whichever environment.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn register_template(
        &self,
        template: &Template,
        yaml: &str,
        environment: &str,
    ) -> Result<Registered, StoreError> {
        let version = template.version.to_string();
        let edges = || {
            template.ordinals().flat_map(|(child, step)| {
                step.dependencies.iter().map(move |parent| (parent.0, child.0))
            })
        };
        let count = |n: usize| i32::try_from(n).expect("a template's size is bounded");
        let roots = template.steps.iter().filter(|step| step.dependencies.is_empty()).count();
        let first: BTreeSet<Ordinal> =
            expand::first_steps(template).iter().map(|birth| birth.ordinal).collect();
        let plain = expand::plain_steps(template);
        let windows = rate_windows(template);
        let mut tx = self.durable.begin().await?;
        let namespaces: BTreeSet<&str> = std::iter::once(template.namespace.as_str())
            .chain(template.steps.iter().map(|step| step.queue.as_str()))
            .collect();
        for namespace in namespaces {
            let queue = worker_queue(namespace)?;
            let dead_letters =
                tasker_pgmq::Queue::new(format!("{queue}_dlq")).map_err(|error| {
                    StoreError::Corrupt { table: "templates", what: error.to_string() }
                })?;
            queue.create(&mut *tx).await?;
            dead_letters.create(&mut *tx).await?;
            sqlx::query!(
                "SELECT order_queue_by_priority($1), keep_pages(('pgmq.q_' || $1)::regclass)",
                queue.name()
            )
            .fetch_one(&mut *tx)
            .await?;
        }
        if template
            .steps
            .iter()
            .flat_map(|step| &step.events)
            .any(|event| event.delivery.is_durable())
        {
            let events = format!("{}_domain_events", template.namespace);
            let events = tasker_pgmq::Queue::new(events).map_err(|error| StoreError::Corrupt {
                table: "templates",
                what: error.to_string(),
            })?;
            events.create(&mut *tx).await?;
            sqlx::query!("SELECT keep_pages(('pgmq.q_' || $1)::regclass)", events.name())
                .fetch_one(&mut *tx)
                .await?;
        }
        sqlx::query_file!(
            "sql/templates/register.sql",
            TemplateId::new().0,
            template.namespace,
            template.name,
            version,
            template::precedence(&template.version),
            &template.digest,
            yaml,
            environment,
            count(first.len()),
            count(roots),
            &template.ordinals().map(|(ordinal, _)| ordinal.0).collect::<Vec<_>>(),
            &template.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>(),
            &template.steps.iter().map(|step| step.callable.clone()).collect::<Vec<_>>(),
            &template.steps.iter().map(|step| step.queue.clone()).collect::<Vec<_>>(),
            &template.steps.iter().map(|step| step.max_attempts.cast_signed()).collect::<Vec<_>>(),
            &template.steps.iter().map(|step| count(step.dependencies.len())).collect::<Vec<_>>(),
            &edges().map(|(parent, _)| parent).collect::<Vec<_>>(),
            &edges().map(|(_, child)| child).collect::<Vec<_>>(),
            &template.ordinals().map(|(ordinal, _)| plain.contains(&ordinal)).collect::<Vec<_>>(),
            &template.ordinals().map(|(ordinal, _)| first.contains(&ordinal)).collect::<Vec<_>>(),
            &template.steps.iter().map(|step| step.kind.expands()).collect::<Vec<_>>(),
            &windows.keys().map(|(namespace, _)| (*namespace).to_owned()).collect::<Vec<_>>(),
            &windows.keys().map(|(_, limit)| (*limit).to_owned()).collect::<Vec<_>>(),
            &windows.values().copied().collect::<Vec<_>>()
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        let (namespace, name) = (template.namespace.clone(), template.name.clone());
        let newest = TemplateName { namespace, name, version: String::new() };
        self.forget_template_name(&newest).await;
        let found = self.find_template(&TemplateName { version, ..newest }).await?;
        match found {
            Some(row) if row.digest == template.digest => Ok(Registered::As(Box::new(row))),
            _ => Ok(Registered::Otherwise),
        }
    }

    /// The template that a name stands for now.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn find_template(
        &self,
        name: &TemplateName,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let mut line = self.relaxed_lines.take().await?;
        let row = sqlx::query_as!(
            Row,
            "SELECT template_id, namespace, name, version, precedence, digest, yaml, environment,
                registered_at
            FROM templates
            WHERE namespace = $1 AND name = $2 AND ($3 = '' OR version = $3)
            ORDER BY precedence DESC LIMIT 1",
            name.namespace,
            name.name,
            name.version
        )
        .fetch_optional(&mut *line)
        .await;
        let row = line.done(row)?;
        Ok(row.map(TemplateRow::from))
    }

    /// The template that a name stood for when it was last looked up.
    ///
    /// A version never becomes another template. The newest does, also by other processes: who uses it
    /// has the database check that it still is, as [`Store::create_tasks`] does, and if it is not,
    /// forgets the name.
    ///
    /// # Errors
    /// The database is not available, or the template's row is corrupt.
    pub async fn template_by_name(
        &self,
        name: &TemplateName,
    ) -> Result<Option<(TemplateId, Arc<Template>)>, StoreError> {
        let id = match self.template_names.get(name).await {
            Some(id) => id,
            // A name that stands for nothing yet may do so soon: it is not remembered.
            None => match self.find_template(name).await? {
                Some(row) => {
                    self.template_names.insert(name.clone(), row.template_id).await;
                    row.template_id
                }
                None => return Ok(None),
            },
        };
        match self.template(id).await {
            Ok(template) => Ok(Some((id, template))),
            // It may stand for another, where a database was put back to an earlier state.
            Err(error) => {
                self.forget_template_name(name).await;
                Err(error)
            }
        }
    }

    /// Has the name looked up when it is used next.
    pub async fn forget_template_name(&self, name: &TemplateName) {
        self.template_names.invalidate(name).await;
    }

    /// Templates by namespace and name, newest version first, after the last one of the page before.
    /// An empty namespace or name does not narrow.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn list_templates(
        &self,
        namespace: &str,
        name: &str,
        after: Option<&(String, String, String)>,
        count: i64,
    ) -> Result<Vec<TemplateRow>, StoreError> {
        let after = after.map(|(namespace, name, precedence)| {
            (namespace.as_str(), name.as_str(), precedence.as_str())
        });
        let rows = sqlx::query_as!(
            Row,
            "SELECT template_id, namespace, name, version, precedence, digest, yaml, environment,
                registered_at
            FROM templates
            WHERE ($1 = '' OR namespace = $1) AND ($2 = '' OR name = $2)
              AND ($3::text IS NULL OR (namespace, name) > ($3, $4)
                OR ((namespace, name) = ($3, $4) AND precedence < $5 COLLATE \"C\"))
            ORDER BY namespace, name, precedence DESC LIMIT $6",
            namespace,
            name,
            after.map(|(namespace, _, _)| namespace),
            after.map(|(_, name, _)| name),
            after.map(|(_, _, precedence)| precedence),
            count
        )
        .fetch_all(&self.relaxed)
        .await?;
        Ok(rows.into_iter().map(TemplateRow::from).collect())
    }

    /// A template by id, read and parsed once.
    ///
    /// # Errors
    /// The database is not available, or the row is corrupt: there is no such template, or it does not parse.
    pub async fn template(&self, id: TemplateId) -> Result<Arc<Template>, StoreError> {
        if let Some(template) = self.templates.get(&id).await {
            return Ok(template);
        }
        let corrupt = |what: String| StoreError::Corrupt { table: "templates", what };
        let row =
            sqlx::query!("SELECT yaml, environment FROM templates WHERE template_id = $1", id.0)
                .fetch_optional(&self.relaxed)
                .await?
                .ok_or_else(|| corrupt(format!("no template {id}")))?;
        let template = Template::parse_in(&row.environment, &row.yaml);
        let template = Arc::new(template.map_err(|found| {
            corrupt(format!("template {id}: {}: {}", found[0].path, found[0].description))
        })?);
        self.templates.insert(id, template.clone()).await;
        Ok(template)
    }
}

/// The longest time of the rates of each limit, in ms: by the namespace whose workers run the steps, and the
/// limit's name.
fn rate_windows(template: &Template) -> BTreeMap<(&str, &str), i64> {
    let mut windows = BTreeMap::new();
    for step in &template.steps {
        for limit in &step.limits {
            let Some(rate) = limit.rate else { continue };
            let per = i64::try_from(rate.per().as_millis()).expect("a day at most");
            let longest = windows.entry((step.queue.as_str(), limit.name.as_str())).or_default();
            *longest = per.max(*longest);
        }
    }
    windows
}

struct Row {
    template_id: uuid::Uuid,
    namespace: String,
    name: String,
    version: String,
    precedence: String,
    digest: Vec<u8>,
    yaml: String,
    environment: String,
    registered_at: DateTime<Utc>,
}

impl From<Row> for TemplateRow {
    fn from(row: Row) -> Self {
        Self {
            template_id: TemplateId(row.template_id),
            namespace: row.namespace,
            name: row.name,
            version: row.version,
            precedence: row.precedence,
            digest: row.digest,
            yaml: row.yaml,
            environment: row.environment,
            registered_at: row.registered_at,
        }
    }
}
