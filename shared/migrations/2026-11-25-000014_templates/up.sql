-- Templates of mails, by name. A name that was deleted and is used again goes on with its version numbers, so that a name
-- and a number say for ever which texts a mail was made of.
CREATE TABLE templates (
    name        text PRIMARY KEY,
    description text,
    published   integer,                         -- the version that mails get; null: none yet
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE template_versions (
    template     text NOT NULL,
    version      integer NOT NULL,
    content      json NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,                  -- the key's name
    published_at timestamptz,                    -- when first; null: a draft, which may still change
    PRIMARY KEY (template, version)
);
