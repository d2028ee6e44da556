-- The same with the events kept, for those who compute the results again.
return pipeline "nexmark" {
  rules   = env "QUERY",
  storage = delta { root = env("LAKE", "lake") },
  commit  = { every = "1s" },
  sources = { source "bronze.event" { generator { events = "nexmark", count = env("EVENTS", 1000000) } } },
}
