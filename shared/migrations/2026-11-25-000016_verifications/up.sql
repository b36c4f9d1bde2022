-- Codes and links that prove that somebody reads an address. The code itself stands nowhere: it is made of the id, the
-- generation and a secret whenever it is needed.
CREATE TABLE verifications (
    id          uuid PRIMARY KEY,
    purpose     text NOT NULL,
    recipient   text NOT NULL,                     -- as mails go to it
    canonical   text NOT NULL,
    pepper      text NOT NULL,                     -- the name of the secret
    generation  integer NOT NULL DEFAULT 1,        -- another one is another code
    form        text NOT NULL,                     -- digits6, digits8, letters8, link
    state       text NOT NULL DEFAULT 'pending',   -- pending, verified, expired, failed, disowned
    attempts    integer NOT NULL DEFAULT 0,        -- of this generation
    sends       integer NOT NULL DEFAULT 1,
    open        boolean NOT NULL,                  -- asked for by a key that may do nothing else
    decoy       boolean NOT NULL DEFAULT false,    -- nothing was sent, and no code is right
    locale      text,
    task_id     uuid NOT NULL,                     -- of the latest mail
    created_by  uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    verified_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX verifications_recipient ON verifications (canonical, purpose, id);
CREATE INDEX verifications_pending ON verifications (expires_at) WHERE state = 'pending';

-- When codes were sent to an address within the last day; also the lock under which that is decided.
CREATE TABLE verification_recipients (
    canonical  text PRIMARY KEY,
    sent       timestamptz[] NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

-- Wrong codes in a day, whichever code they were for.
CREATE TABLE verification_tries (
    canonical text NOT NULL,
    purpose   text NOT NULL,
    failed    integer NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (canonical, purpose)
) WITH (fillfactor = 70);

-- Codes asked for in an hour of the clock, by API key and by the client address that the caller names (as a MAC).
CREATE TABLE verification_windows (
    source text NOT NULL,
    hour   timestamptz NOT NULL,
    asked  integer NOT NULL,
    PRIMARY KEY (source, hour)
) WITH (fillfactor = 70);
