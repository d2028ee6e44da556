-- Writes the events as nested JSON into the topic `nexmark` (lz4, PARTITIONS of it) of KAFKA.
return pipeline "nexmark_to_kafka" {
  rules      = "to_kafka",
  ledger     = { path = env("LAKE", "lake") .. "/ledger" },
  commit     = { every = "1s" },
  quarantine = none,
  sources    = { source "bronze.event" { generator { events = "nexmark", count = env("EVENTS", 1000000) }, into = none } },
}
