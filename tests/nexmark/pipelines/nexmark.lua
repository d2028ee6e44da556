-- QUERY=q5 EVENTS=20000000 weir run pipelines/nexmark.lua --until-end
return pipeline "nexmark" {
  rules   = env "QUERY",
  storage = delta { root = env("LAKE", "lake") },
  commit  = { every = "1s" },
  memory  = { state = env("STATE", "8GB") },
  sources = { source "bronze.event" { generator { events = "nexmark", count = env("EVENTS", 1000000) }, into = none } },
}
