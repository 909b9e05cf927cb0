//! `tasker.v1.DlqService`: decodes, calls the verb or the read, encodes.

use chrono::{DateTime, TimeDelta, Utc};
use tasker_api::{
    Invalid, dead_letters, field, page, status, time,
    v1::{
        self, CreateDlqEntryRequest, CreateDlqEntryResponse, GetDlqEntryRequest,
        GetDlqEntryResponse, GetDlqStatsRequest, GetDlqStatsResponse, GetInvestigationQueueRequest,
        GetInvestigationQueueResponse, GetTaskHealthRequest, GetTaskHealthResponse,
        ListDlqEntriesRequest, ListDlqEntriesResponse, ListStaleTasksRequest,
        ListStaleTasksResponse, UpdateDlqEntryRequest, UpdateDlqEntryResponse,
        dlq_service_server::DlqService,
    },
};
use tasker_domain::{DeadLetterId, TaskId, template::lifecycle::Health};
use tasker_stage::store_error;
use tasker_store::{
    CreatedByHand, DeadLetter, DeadLetterCounts, DeadLetterFilter, DeadLetterUpdate, QueuePlace,
    StoreError, TaskRow, Updated,
};
use tonic::{Code, Request, Response, Status};

use crate::standings::{Found, Standings};

/// The longest of each, in bytes.
const MAX_LABEL: usize = 128;
const MAX_NOTES: usize = 8 << 10;

/// The service's answers about dead letters and stale tasks.
pub struct DeadLetters {
    pub standings: Standings,
}

#[tonic::async_trait]
impl DlqService for DeadLetters {
    async fn create_dlq_entry(
        &self,
        request: Request<CreateDlqEntryRequest>,
    ) -> Result<Response<CreateDlqEntryResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let task = invalid.take(field::task_id(&request.task_id));
        if request.reason.is_empty() {
            invalid.add("reason", "say why");
        }
        let by = invalid.take(field::operator(request.operator, request.reason));
        let request_id = field::text("request_id", request.request_id, MAX_LABEL);
        let request_id = invalid.take(request_id);
        let (Some(task_id), Some(by), Some(request_id)) = (task, by, request_id) else {
            return Err(invalid.into());
        };
        invalid.check()?;
        let store = &self.standings.database.store;
        let created =
            store.create_dead_letter_by_hand(task_id, &by.reason, &by.actor, &request_id).await;
        let entry = match created.map_err(|error| self.failed(&error))? {
            CreatedByHand::Entry(entry) => entry,
            CreatedByHand::MadeOfAnother(entry, task) => return Err(is_of_another(entry, task)),
            CreatedByHand::Pending(entry) => return Err(is_pending(task_id, entry)),
            CreatedByHand::NoTask => return Err(status::not_found("task", &task_id.to_string())),
        };
        let entry = Some(self.entry(entry).await?);
        Ok(Response::new(CreateDlqEntryResponse { entry }))
    }

    async fn get_dlq_entry(
        &self,
        request: Request<GetDlqEntryRequest>,
    ) -> Result<Response<GetDlqEntryResponse>, Status> {
        let entry = field::id("entry_id", &request.into_inner().entry_id)?;
        let entry = Some(self.entry(entry).await?);
        Ok(Response::new(GetDlqEntryResponse { entry }))
    }

    async fn list_dlq_entries(
        &self,
        request: Request<ListDlqEntriesRequest>,
    ) -> Result<Response<ListDlqEntriesResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let namespace = invalid.take(field::text("namespace", request.namespace, MAX_LABEL));
        let task = match request.task_id.as_str() {
            "" => None,
            text => invalid.take(field::task_id(text)),
        };
        let reasons = invalid.take(dead_letters::reasons("reasons", &request.reasons));
        let statuses = invalid.take(dead_letters::statuses("statuses", &request.statuses));
        let size = invalid.take(page::size(request.page_size));
        let before = invalid.take(after::<DeadLetterId>(&request.page_token));
        let (Some(size), Some(before)) = (size, before) else { return Err(invalid.into()) };
        invalid.check()?;
        let filter = DeadLetterFilter {
            namespace: namespace.unwrap_or_default(),
            task,
            reasons: reasons.unwrap_or_default(),
            statuses: statuses.unwrap_or_default(),
        };
        let store = &self.standings.database.store;
        let rows = store.list_dead_letters(&filter, before, size + 1).await;
        let (rows, more) = cut(rows.map_err(|error| self.failed(&error))?, size);
        let last = rows.last().filter(|_| more);
        let next_page_token =
            last.map(|row| page::token(&[&row.entry_id.to_string()])).unwrap_or_default();
        let entries = rows.into_iter().map(entry).collect();
        Ok(Response::new(ListDlqEntriesResponse { entries, next_page_token }))
    }

    async fn update_dlq_entry(
        &self,
        request: Request<UpdateDlqEntryRequest>,
    ) -> Result<Response<UpdateDlqEntryResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let id = invalid.take(field::id("entry_id", &request.entry_id));
        let by = invalid.take(field::operator(request.operator, String::new()));
        let status = invalid.take(dead_letters::optional_status("status", request.status));
        let notes = request.notes.map(|notes| field::text("notes", notes, MAX_NOTES)).transpose();
        let notes = invalid.take(notes);
        let (Some(id), Some(by), Some(status), Some(notes)) = (id, by, status, notes) else {
            return Err(invalid.into());
        };
        let update = DeadLetterUpdate { status, notes, resolver: by.actor };
        let updated = self.standings.database.store.update_dead_letter(id, &update).await;
        match updated.map_err(|error| self.failed(&error))? {
            Updated::Done => {
                let entry = Some(self.entry(id).await?);
                Ok(Response::new(UpdateDlqEntryResponse { entry }))
            }
            Updated::Missing => Err(status::not_found("dlq_entry", &id.to_string())),
            Updated::Resolved(otherwise) => Err(status::with_reason(
                Code::FailedPrecondition,
                "DLQ_ENTRY_RESOLVED",
                [("status", otherwise.to_string())],
                format!("the entry was resolved before: it is {otherwise}"),
            )),
        }
    }

    async fn get_investigation_queue(
        &self,
        request: Request<GetInvestigationQueueRequest>,
    ) -> Result<Response<GetInvestigationQueueResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let namespace = invalid.take(field::text("namespace", request.namespace, MAX_LABEL));
        let size = invalid.take(page::size(request.page_size));
        let after = invalid.take(place(&request.page_token));
        let (Some(namespace), Some(size), Some(after)) = (namespace, size, after) else {
            return Err(invalid.into());
        };
        let store = &self.standings.database.store;
        let rows = store.dead_letters_to_look_into(&namespace, after, size + 1).await;
        let (rows, more) = cut(rows.map_err(|error| self.failed(&error))?, size);
        let last = rows.last().filter(|_| more);
        let next_page_token = last.map(|(_, place)| token(place)).unwrap_or_default();
        let investigations = rows.into_iter().map(|(row, place)| v1::DlqInvestigation {
            entry: Some(entry(row)),
            score: place.score,
        });
        let investigations = investigations.collect();
        Ok(Response::new(GetInvestigationQueueResponse { investigations, next_page_token }))
    }

    async fn get_dlq_stats(
        &self,
        request: Request<GetDlqStatsRequest>,
    ) -> Result<Response<GetDlqStatsResponse>, Status> {
        let namespace = field::text("namespace", request.into_inner().namespace, MAX_LABEL)?;
        let counts = self.standings.database.store.count_dead_letters(&namespace).await;
        let counts = counts.map_err(|error| self.failed(&error))?;
        let reasons = counts.iter().map(stats).collect();
        Ok(Response::new(GetDlqStatsResponse { reasons }))
    }

    async fn list_stale_tasks(
        &self,
        request: Request<ListStaleTasksRequest>,
    ) -> Result<Response<ListStaleTasksResponse>, Status> {
        let request = request.into_inner();
        let mut invalid = Invalid::new();
        let namespace = invalid.take(field::text("namespace", request.namespace, MAX_LABEL));
        let size = invalid.take(page::size(request.page_size));
        let after = invalid.take(after::<TaskId>(&request.page_token));
        let (Some(namespace), Some(size), Some(after)) = (namespace, size, after) else {
            return Err(invalid.into());
        };
        let store = &self.standings.database.store;
        let known = store.unhealthy_tasks(after, size + 1).await;
        let (known, more) = cut(known.map_err(|error| self.failed(&error))?, size);
        // Some may have moved on since they were looked at.
        let found = self.standings.of(&known).await.map_err(|error| self.failed(&error))?;
        let least = if request.only_stale { Health::Stale } else { Health::Warning };
        let wanted = |found: &Found| {
            found.health() >= least && (namespace.is_empty() || found.task.namespace == namespace)
        };
        let tasks = found.into_iter().filter(wanted).filter_map(stale_task).collect();
        let last = known.last().filter(|_| more);
        let next_page_token =
            last.map(|task| page::token(&[&task.to_string()])).unwrap_or_default();
        Ok(Response::new(ListStaleTasksResponse { tasks, next_page_token }))
    }

    async fn get_task_health(
        &self,
        request: Request<GetTaskHealthRequest>,
    ) -> Result<Response<GetTaskHealthResponse>, Status> {
        let id = field::task_id(&request.into_inner().task_id)?;
        let found = self.standings.of(&[id]).await.map_err(|error| self.failed(&error))?.pop();
        let row = self.standings.database.store.task(id).await;
        let row = row.map_err(|error| self.failed(&error))?;
        let row = row.ok_or_else(|| status::not_found("task", &id.to_string()))?;
        let reading = Some(reading(id, &row, found.as_ref()));
        Ok(Response::new(GetTaskHealthResponse { reading }))
    }
}

impl DeadLetters {
    /// One entry with its snapshot.
    async fn entry(&self, id: DeadLetterId) -> Result<v1::DlqEntry, Status> {
        let found = self.standings.database.store.dead_letter(id).await;
        let found = found.map_err(|error| self.failed(&error))?;
        let (row, snapshot) =
            found.ok_or_else(|| status::not_found("dlq_entry", &id.to_string()))?;
        let snapshot = v1::Payload {
            content_type: field::JSON.to_owned(),
            data: snapshot.to_string().into(),
            ..v1::Payload::default()
        };
        Ok(v1::DlqEntry { snapshot: Some(snapshot), ..entry(row) })
    }

    fn failed(&self, error: &StoreError) -> Status {
        self.standings.database.noticed(error);
        store_error(error)
    }
}

/// The last id of the page before.
fn after<T: std::str::FromStr<Err = tasker_domain::id::NotAnId>>(
    page_token: &str,
) -> Result<Option<T>, Invalid> {
    page::key::<1>(page_token)?.map(|[id]| field::id("page_token", &id)).transpose()
}

fn token(place: &QueuePlace) -> String {
    let QueuePlace { as_of, score, entry_id } = place;
    page::token(&[&as_of.timestamp_micros().to_string(), &score.to_string(), &entry_id.to_string()])
}

fn place(page_token: &str) -> Result<Option<QueuePlace>, Invalid> {
    let Some([as_of, score, entry]) = page::key::<3>(page_token)? else { return Ok(None) };
    let wrong = || Invalid::field("page_token", "give `next_page_token` of the page before");
    let as_of = as_of.parse().ok().and_then(DateTime::<Utc>::from_timestamp_micros);
    Ok(Some(QueuePlace {
        as_of: as_of.ok_or_else(wrong)?,
        score: score.parse().map_err(|_| wrong())?,
        entry_id: entry.parse().map_err(|_| wrong())?,
    }))
}

/// A page, and whether there is more behind it.
fn cut<T>(mut rows: Vec<T>, size: i64) -> (Vec<T>, bool) {
    let size = usize::try_from(size).expect("a page is small");
    let more = rows.len() > size;
    rows.truncate(size);
    (rows, more)
}

fn is_pending(task: TaskId, entry: DeadLetterId) -> Status {
    status::with_reason(
        Code::AlreadyExists,
        "DLQ_ENTRY_PENDING",
        [("entry_id", entry.to_string())],
        format!("task {task} is among the dead letters: entry {entry} is pending"),
    )
}

fn is_of_another(entry: DeadLetterId, task: TaskId) -> Status {
    status::with_reason(
        Code::AlreadyExists,
        "REQUEST_ID_USED",
        [("entry_id", entry.to_string()), ("task_id", task.to_string())],
        format!("the request with this id has made entry {entry} of task {task}: give another id"),
    )
}

fn entry(row: DeadLetter) -> v1::DlqEntry {
    v1::DlqEntry {
        entry_id: row.entry_id.to_string(),
        task_id: row.task_id.to_string(),
        template: Some(v1::TemplateRef {
            namespace: row.namespace,
            name: row.name,
            version: row.version,
        }),
        task_state: v1::TaskState::from(row.task_state).into(),
        reason: v1::DlqReason::from(row.reason).into(),
        detail: row.detail,
        actor: row.actor,
        status: v1::DlqStatus::from(row.status).into(),
        create_time: Some(time::timestamp(row.created_at)),
        resolve_time: row.resolved_at.map(time::timestamp),
        resolver: row.resolver,
        notes: row.notes,
        snapshot: None,
    }
}

fn stats(counts: &DeadLetterCounts) -> v1::DlqReasonStats {
    v1::DlqReasonStats {
        reason: v1::DlqReason::from(counts.reason).into(),
        pending: counts.pending,
        resolved: counts.resolved,
        oldest_pending_time: counts.oldest_pending.map(time::timestamp),
        mean_time_to_resolve: counts.mean_time_to_resolve.map(time::duration),
    }
}

/// `found`: nothing if no template limits the task, or it has ended.
fn reading(id: TaskId, row: &TaskRow, found: Option<&Found>) -> v1::TaskHealthReading {
    let reading = v1::TaskHealthReading {
        task_id: id.to_string(),
        state: v1::TaskState::from(row.state).into(),
        ..v1::TaskHealthReading::default()
    };
    if row.state.is_end() {
        return reading;
    }
    let standing = found.and_then(|found| found.standing);
    let since = found.map_or(row.created_at, |found| {
        let lasted = standing.map_or(found.task.in_state, |standing| standing.unchanged_for());
        let lasted = TimeDelta::from_std(lasted);
        lasted.map_or(row.created_at, |lasted| found.task.looked_at - lasted)
    });
    let health = standing.map_or(Health::Healthy, |standing| standing.health);
    let reading = v1::TaskHealthReading {
        health: v1::TaskHealth::from(health).into(),
        since_time: Some(time::timestamp(since)),
        ..reading
    };
    let Some(standing) = standing else { return reading };
    v1::TaskHealthReading {
        limit: v1::LifecycleLimit::from(standing.stay.limit).into(),
        lasted: Some(time::duration(standing.stay.lasted)),
        allowed: Some(time::duration(standing.allowed)),
        ..reading
    }
}

fn stale_task(found: Found) -> Option<v1::StaleTask> {
    let (health, standing) = (found.health(), found.standing?);
    let task = found.task;
    Some(v1::StaleTask {
        task_id: task.task_id.to_string(),
        template: Some(v1::TemplateRef {
            namespace: task.namespace,
            name: task.name,
            version: task.version,
        }),
        state: v1::TaskState::from(task.state).into(),
        health: v1::TaskHealth::from(health).into(),
        limit: v1::LifecycleLimit::from(standing.stay.limit).into(),
        lasted: Some(time::duration(standing.stay.lasted)),
        allowed: Some(time::duration(standing.allowed)),
    })
}
