-- What happened, a row for each commit: the events it passed, in order, and where they led.
-- Append-only, partitioned by time, dropped by partition.
CREATE SEQUENCE transition_ids;

CREATE TABLE task_transitions (
    transition_id bigint       NOT NULL DEFAULT nextval('transition_ids'),
    task_id       uuid         NOT NULL,
    events        task_event[] NOT NULL,
    to_state      task_state   NOT NULL,
    actor         text         NOT NULL,
    reason        text,
    occurred_at   timestamptz  NOT NULL DEFAULT now()
) PARTITION BY RANGE (occurred_at);

CREATE INDEX task_transitions_by_task ON task_transitions (task_id, transition_id);

CREATE TABLE step_transitions (
    transition_id bigint       NOT NULL DEFAULT nextval('transition_ids'),
    task_id       uuid         NOT NULL,
    ordinal       integer      NOT NULL,
    events        step_event[] NOT NULL,
    to_state      step_state   NOT NULL,
    attempt       integer      NOT NULL,
    actor         text         NOT NULL,
    reason        text,
    occurred_at   timestamptz  NOT NULL DEFAULT now()
) PARTITION BY RANGE (occurred_at);

CREATE INDEX step_transitions_by_task ON step_transitions (task_id, transition_id);

-- Catch what no partition was made for in time: late maintenance loses nothing.
CREATE TABLE task_transitions_default PARTITION OF task_transitions DEFAULT;
CREATE TABLE step_transitions_default PARTITION OF step_transitions DEFAULT;
