-- Has no further step begin of tasks that are made from a template: of all its versions if none is named.
-- Says whether there is such a template.
WITH known AS (
    SELECT EXISTS (
        SELECT FROM templates WHERE namespace = $1 AND name = $2 AND ($3 = '' OR version = $3)
    ) AS known
), noted AS (
    INSERT INTO pauses (namespace, name, version, paused_by, reason)
    SELECT $1, $2, $3, $4, $5 FROM known WHERE known
    ON CONFLICT (namespace, name, version) WHERE task_id IS NULL AND resumed_at IS NULL DO NOTHING
)
SELECT known AS "known!" FROM known
