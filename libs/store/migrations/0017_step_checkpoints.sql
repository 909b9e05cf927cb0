-- How far steps have come, as their workers have said: the newest of each. Cold: a step that saves nothing
-- has no row, and a step that ends leaves its row alone, to go with its task.
CREATE TABLE step_checkpoints (
    task_id    uuid        NOT NULL,
    ordinal    integer     NOT NULL,
    -- Which attempt has saved it.
    attempt    integer     NOT NULL,
    -- `tasker.v1.Checkpoint`, encoded.
    checkpoint bytea       NOT NULL,
    saved_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, ordinal)
);

-- So that the deliveries of all other steps need not look.
ALTER TABLE steps ADD COLUMN has_checkpoint boolean NOT NULL DEFAULT false;
