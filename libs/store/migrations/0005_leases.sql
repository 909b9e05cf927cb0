-- One for each connection of a worker, and for each worker that polls.
CREATE TABLE worker_sessions (
    session_id uuid        PRIMARY KEY,
    worker_id  text        NOT NULL,
    -- Set by the database clock, and only ever compared with it.
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Which session has which step. Few rows, each soon deleted: searched whole, never by index.
CREATE TABLE leases (
    task_id     uuid        NOT NULL,
    ordinal     integer     NOT NULL,
    delivery_id uuid        NOT NULL,
    session_id  uuid        NOT NULL,
    granted_at  timestamptz NOT NULL DEFAULT now(),
    -- When the attempt has failed by taking too long.
    times_out_at timestamptz NOT NULL,
    PRIMARY KEY (task_id, ordinal)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
