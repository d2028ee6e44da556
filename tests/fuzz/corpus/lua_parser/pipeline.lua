return pipeline "retail" {
  sources = { source "bronze.pos" { files { path = "in/*.jsonl" }, json { schema = "s.avsc" }, keep = "90d" } },
  commit = { every = "1s" }; storage = delta { root = env("LAKE", "data/lake") },
}
