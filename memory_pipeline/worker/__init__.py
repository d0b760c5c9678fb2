"""The worker: relays jobs from the ledger to Redis, takes them back in micro-batches, runs the stages on them."""
