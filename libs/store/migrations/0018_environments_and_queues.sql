-- Where a template was registered: what its definition changes there is in force for good.
ALTER TABLE templates ADD COLUMN environment text NOT NULL DEFAULT '';

-- The namespace whose workers run the step, if it is not the template's own.
ALTER TABLE template_steps ADD COLUMN queue text;
