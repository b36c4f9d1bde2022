DROP TABLE broker_epoch, workers, idempotency_keys, api_keys, task_attempts, outbox, tasks;
