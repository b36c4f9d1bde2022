-- How fast mails go to a relay that has a rate (relay:<name>), and to recipients' domains that asked for less
-- (domain:<name>); shared by all workers.
CREATE TABLE mail_gates (
    name       text PRIMARY KEY,
    rate       double precision NOT NULL,          -- mails per second
    next_at    timestamptz NOT NULL DEFAULT now(), -- when the next one may go
    changed_at timestamptz NOT NULL DEFAULT now()  -- of a domain: slowed, or trusted a little more
) WITH (fillfactor = 50);
