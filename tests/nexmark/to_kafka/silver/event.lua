return stream "silver.event" {
  from = "bronze.event",
  into = kafka { brokers = env "KAFKA", topic = "nexmark", create = { partitions = env("PARTITIONS", 4) }, compression = "lz4" },
}
