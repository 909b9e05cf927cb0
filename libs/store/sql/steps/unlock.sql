-- Takes met dependencies off the children of steps that were settled by hand. The caller holds the tasks.
WITH settled AS MATERIALIZED (
    SELECT task_id, coalesce(declared, ordinal) AS parent, template_id
    FROM unnest($1::uuid[], $2::integer[]) AS settled (task_id, ordinal)
    JOIN tasks USING (task_id)
    JOIN steps USING (task_id, ordinal)
), met AS (
    -- Counted first: an UPDATE that joins a child to two parents would take off only one.
    SELECT task_id, child, count(*)::integer AS parents
    FROM settled JOIN template_dependencies USING (template_id, parent)
    GROUP BY task_id, child
)
UPDATE steps SET unmet_dependencies = unmet_dependencies - met.parents
FROM met
WHERE (steps.task_id, steps.ordinal) = (met.task_id, met.child)
RETURNING steps.task_id, steps.ordinal
