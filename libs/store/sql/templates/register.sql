-- Registers a template with its steps, and notes how long its rates count.
-- Returns whether it was new.
WITH registered AS (
    INSERT INTO templates (template_id, namespace, name, version, precedence, digest, yaml,
        environment, step_count, root_count)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (namespace, name, version) DO NOTHING
    RETURNING template_id
), steps AS (
    INSERT INTO template_steps (template_id, ordinal, name, callable, queue, max_attempts, dependencies,
        plain, first, expands)
    SELECT template_id, ordinal, name, callable, nullif(queue, $2), max_attempts, dependencies, plain,
        first, expands
    FROM registered
    CROSS JOIN unnest(
        $11::integer[], $12::text[], $13::text[], $14::text[], $15::integer[], $16::integer[], $19::boolean[],
        $20::boolean[], $21::boolean[]
    ) AS step (ordinal, name, callable, queue, max_attempts, dependencies, plain, first, expands)
), dependencies AS (
    INSERT INTO template_dependencies (template_id, parent, child)
    SELECT template_id, parent, child
    FROM registered CROSS JOIN unnest($17::integer[], $18::integer[]) AS edge (parent, child)
), windows AS (
    -- Also of what was registered before windows were noted; not of what is refused.
    INSERT INTO rate_windows (namespace, limit_name, per_ms)
    SELECT * FROM unnest($22::text[], $23::text[], $24::bigint[]) AS rate (namespace, limit_name, per_ms)
    WHERE NOT EXISTS (
        SELECT FROM templates
        WHERE (templates.namespace, templates.name, templates.version) = ($2, $3, $4) AND digest <> $6
    )
    -- Two that are registered at once wait for each other in one order.
    ORDER BY namespace, limit_name
    ON CONFLICT (namespace, limit_name) DO UPDATE SET per_ms = EXCLUDED.per_ms
    WHERE rate_windows.per_ms < EXCLUDED.per_ms
)
SELECT EXISTS (SELECT FROM registered) AS "registered!"
