-- The bid that wins each auction: the highest, the first of equals.
return model "gold.q9" {
  from = "silver.auction_bid",
  top  = { n = 1, by = { "-price", "bid_time" }, per = { "id" } },
  into = delta { mode = "merge", properties = { ["delta.enableDeletionVectors"] = "true" } },
}
