-- Which programs may still run on this schema: those made for the one named here, or a later one. A migration
-- that takes away or changes what they use raises it, in its own transaction, to the first schema whose programs
-- do without: `UPDATE oldest_program SET schema_version = …`. Zero: nothing has been taken away.
CREATE TABLE oldest_program (
    schema_version bigint NOT NULL
);
CREATE UNIQUE INDEX there_is_one_oldest_program ON oldest_program ((true));
INSERT INTO oldest_program (schema_version) VALUES (0);
