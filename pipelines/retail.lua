-- The shipped example: till lines of a retailer, from the built-in generator. The platform engineer's file.
return pipeline "retail" {
  description = "Till lines in, valid sales and their velocity out",
  rules     = "rules",
  storage   = delta { root = env("LAKE", "data/lake") },
  commit    = { every = "1s" },
  ledger    = { keep = "10m" },                                 -- how far back replay and rollback can go
  time_zone = "Europe/London",
  sources = {
    source "bronze.pos_sale" { generator { seed = 1, rate = 200000 } },
  },
}
