-- The longest time in which a rate of this name counts what has begun, of all templates that were ever
-- registered: another template's begins are kept for as long. What was registered before is noted here when
-- it is registered again.
CREATE TABLE rate_windows (
    -- Whose workers run the steps.
    namespace  text   NOT NULL,
    limit_name text   NOT NULL,
    per_ms     bigint NOT NULL,
    PRIMARY KEY (namespace, limit_name)
);
