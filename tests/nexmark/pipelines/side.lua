-- For the query with a side input: SIDE is a CSV file with a header and the columns key and value.
return pipeline "nexmark" {
  rules   = env "QUERY",
  storage = delta { root = env("LAKE", "lake") },
  commit  = { every = "1s" },
  sources = {
    source "bronze.event" { generator { events = "nexmark", count = env("EVENTS", 1000000) }, into = none },
    source "bronze.side" { files { path = env "SIDE" }, csv { header = true, schema = "schemas/side.avsc" }, into = none },
  },
}
