"""What Dagster costs here: overhead per partition, backfills, refreshes, event log, loading."""
