//! The tables as diesel sees them; `migrations/` says what they mean. diesel is built for 32 columns, so those of `tasks`
//! that only statements in SQL touch (`result_ttl_s`, `point_of_no_return_at`) are left out.

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
    }
}

diesel::table! {
    broker_epoch (only) {
        only -> Bool,
        epoch -> BigInt,
        started_at -> Timestamptz,
    }
}

diesel::allow_tables_to_appear_in_same_query!(tasks, outbox, task_attempts, workers);
