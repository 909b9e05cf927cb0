-- Which task runs an older one again, and from which step on. Written at birth.
CREATE TABLE task_reruns (
    task_id   uuid PRIMARY KEY,
    rerun_of  uuid NOT NULL,
    from_step text NOT NULL
);

-- For what a task shows of its reruns.
CREATE INDEX task_reruns_by_origin ON task_reruns (rerun_of, task_id);
