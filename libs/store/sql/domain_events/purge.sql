-- Deletes durable events that nobody has read for so many days, of each namespace the oldest.
SELECT namespace AS "namespace!", purged AS "purged!"
FROM purge_domain_events($1::integer * interval '1 day', $2)
