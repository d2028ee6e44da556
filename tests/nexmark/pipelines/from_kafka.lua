-- The queries over what pipelines/to_kafka.lua wrote: QUERY=q5 KAFKA=localhost:9092 weir run pipelines/from_kafka.lua --until-end
return pipeline "nexmark" {
  rules   = env "QUERY",
  storage = delta { root = env("LAKE", "lake") },
  commit  = { every = "1s" },
  memory  = { state = env("STATE", "8GB") },
  sources = {
    source "bronze.event" { kafka { brokers = env "KAFKA", topic = "nexmark" }, json { schema = "schemas/event.avsc" }, into = none },
  },
}
