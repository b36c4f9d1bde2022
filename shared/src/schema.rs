//! The tables as diesel sees them; `migrations/` says what they mean. diesel is built for 32 columns, so those of `tasks`
//! that only statements in SQL touch (`result_ttl_s`, `point_of_no_return_at`, `content_ttl_s`) are left out.

diesel::table! {
    tasks (id) {
        id -> Uuid,
        kind -> Text,
        queue -> Text,
        priority -> SmallInt,
        lane -> Text,
        status -> Text,
        payload -> Json,
        result -> Nullable<Json>,
        error_code -> Nullable<Text>,
        error_message -> Nullable<Text>,
        attempt -> Integer,
        max_attempts -> Integer,
        on_worker_lost -> Text,
        tags -> Array<Text>,
        worker_id -> Nullable<Uuid>,
        run_at -> Nullable<Timestamptz>,
        due_at -> Nullable<Timestamptz>,
        useful_until -> Nullable<Timestamptz>,
        next_attempt_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        started_at -> Nullable<Timestamptz>,
        finished_at -> Nullable<Timestamptz>,
        requeued_at -> Nullable<Timestamptz>,
        created_by -> Nullable<Uuid>,
        traceparent -> Nullable<Text>,
        forgiven -> Integer,
        progress -> Nullable<Json>,
        cancel_requested_at -> Nullable<Timestamptz>,
        soft_limit_s -> Nullable<Integer>,
        hard_limit_s -> Nullable<Integer>,
        limit_key -> Nullable<Text>,
    }
}

diesel::table! {
    outbox (id) {
        id -> Uuid,
        task_id -> Uuid,
        attempt -> Integer,
        kind -> Text,
        lane -> Text,
        exchange -> Text,
        routing_key -> Text,
        traceparent -> Nullable<Text>,
        publish_after -> Timestamptz,
        tries -> Integer,
    }
}

diesel::table! {
    task_attempts (task_id, attempt) {
        task_id -> Uuid,
        attempt -> Integer,
        outcome -> Text,
        error_code -> Nullable<Text>,
        error_message -> Nullable<Text>,
        worker_id -> Nullable<Uuid>,
        started_at -> Nullable<Timestamptz>,
        ended_at -> Timestamptz,
        next_attempt_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    task_output (task_id, attempt, seq) {
        task_id -> Uuid,
        attempt -> Integer,
        seq -> Integer,
        text -> Text,
        truncated -> Bool,
        at -> Timestamptz,
    }
}

diesel::table! {
    api_keys (id) {
        id -> Uuid,
        name -> Text,
        hash -> Bytea,
        hint -> Text,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
        scopes -> Array<Text>,
        last_used_at -> Nullable<Timestamptz>,
        rate_per_s -> Nullable<Double>,
        burst -> Nullable<Integer>,
        daily_quota -> Nullable<BigInt>,
    }
}

diesel::table! {
    api_key_usage (api_key_id, day) {
        api_key_id -> Uuid,
        day -> Date,
        tasks -> BigInt,
    }
}

diesel::table! {
    replays (id) {
        id -> Uuid,
        state -> Text,
        asked -> Json,
        filter -> Json,
        digest -> Text,
        at_most -> BigInt,
        canary -> Integer,
        min_success -> Double,
        rate_per_s -> Double,
        timeout_s -> Integer,
        share_of -> Nullable<Integer>,
        max_waiting -> Integer,
        matched -> BigInt,
        counted -> Bool,
        replayed -> BigInt,
        succeeded -> BigInt,
        failed -> BigInt,
        share -> Nullable<Double>,
        below -> Nullable<Uuid>,
        paced_at -> Nullable<Timestamptz>,
        due_at -> Nullable<Timestamptz>,
        reason -> Nullable<Text>,
        created_by -> Uuid,
        actor -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    audit_log (id) {
        id -> Uuid,
        at -> Timestamptz,
        api_key_id -> Nullable<Uuid>,
        actor -> Text,
        action -> Text,
        task_id -> Nullable<Uuid>,
        details -> Nullable<Json>,
    }
}

diesel::table! {
    idempotency_keys (api_key_id, key) {
        api_key_id -> Uuid,
        key -> Text,
        request_id -> Uuid,
        request_hash -> Bytea,
        status -> SmallInt,
        location -> Nullable<Text>,
        answer -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    workers (id) {
        id -> Uuid,
        name -> Text,
        host -> Text,
        pid -> Integer,
        version -> Text,
        queues -> Array<Text>,
        state -> Text,
        beats -> BigInt,
        started_at -> Timestamptz,
        heartbeat_at -> Timestamptz,
        clock_ahead_s -> Nullable<Double>,
        kinds -> Array<Text>,
        load -> Nullable<Json>,
        running -> Nullable<Json>,
        rss_bytes -> Nullable<BigInt>,
        tasks_done -> BigInt,
        drain -> Nullable<Text>,
    }
}

diesel::table! {
    pauses (scope, name) {
        scope -> Text,
        name -> Text,
        paused_at -> Timestamptz,
        paused_by -> Text,
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    limits (scope, name) {
        scope -> Text,
        name -> Text,
        rate -> Nullable<Double>,
        burst -> Nullable<Integer>,
        concurrency -> Nullable<Integer>,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    limit_buckets (scope, name) {
        scope -> Text,
        name -> Text,
        tokens -> Nullable<Double>,
        filled_at -> Timestamptz,
    }
}

diesel::table! {
    limit_holds (scope, name, task_id) {
        scope -> Text,
        name -> Text,
        task_id -> Uuid,
        attempt -> Integer,
    }
}

diesel::table! {
    limit_waits (task_id) {
        task_id -> Uuid,
        scope -> Text,
        name -> Text,
        queue -> Text,
        priority -> SmallInt,
        since -> Timestamptz,
        woken_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    task_rates (at, queue, lane, kind) {
        at -> Timestamptz,
        queue -> Text,
        lane -> Text,
        kind -> Text,
        accepted -> BigInt,
        attempts -> BigInt,
        finished -> BigInt,
        failed -> BigInt,
        busy_s -> Double,
    }
}

diesel::table! {
    broker_epoch (only) {
        only -> Bool,
        epoch -> BigInt,
        started_at -> Timestamptz,
    }
}

diesel::table! {
    replay_tasks (replay_id, task_id) {
        replay_id -> Uuid,
        task_id -> Uuid,
        attempt -> Integer,
        outcome -> Nullable<Text>,
        replayed_at -> Timestamptz,
        settled_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    templates (name) {
        name -> Text,
        description -> Nullable<Text>,
        published -> Nullable<Integer>,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    template_versions (template, version) {
        template -> Text,
        version -> Integer,
        content -> Json,
        created_at -> Timestamptz,
        created_by -> Text,
        published_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    suppressions (id) {
        id -> Uuid,
        address -> Text,
        category -> Text,
        purpose -> Text,
        reason -> Text,
        detail -> Nullable<Text>,
        task_id -> Nullable<Uuid>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
        created_by -> Text,
    }
}

diesel::table! {
    email_events (task_id, event, code) {
        task_id -> Uuid,
        event -> Text,
        code -> Text,
        detail -> Nullable<Text>,
        at -> Timestamptz,
    }
}

diesel::table! {
    verifications (id) {
        id -> Uuid,
        purpose -> Text,
        recipient -> Text,
        canonical -> Text,
        pepper -> Text,
        generation -> Integer,
        form -> Text,
        state -> Text,
        attempts -> Integer,
        sends -> Integer,
        open -> Bool,
        decoy -> Bool,
        locale -> Nullable<Text>,
        task_id -> Uuid,
        created_by -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        verified_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    users (id) {
        id -> Uuid,
        email -> Text,
        canonical -> Text,
        username -> Text,
        locale -> Nullable<Text>,
        verified_at -> Nullable<Timestamptz>,
        task_id -> Nullable<Uuid>,
        created_by -> Uuid,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    erasures (id) {
        id -> Uuid,
        address -> Nullable<Text>,
        keyed -> Nullable<Text>,
        done -> Uuid,
        rechecked -> Bool,
        tasks -> BigInt,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    files (sha256) {
        sha256 -> Text,
        size -> BigInt,
        used_at -> Timestamptz,
    }
}

diesel::table! {
    task_files (task_id, sha256) {
        task_id -> Uuid,
        sha256 -> Text,
        brief -> Bool,
    }
}

diesel::allow_tables_to_appear_in_same_query!(tasks, outbox, task_attempts, workers);
diesel::allow_tables_to_appear_in_same_query!(api_keys, api_key_usage);
