"""From a dump to typed tables: ingest, taxonomy, photo table, partitions and selection."""
