-- What auctions of each category end at, on average.
return model "gold.q4" {
  from     = "silver.winning",
  by       = { "category" },
  measures = { mean = avg "final" },
  into     = delta { mode = "merge", properties = { ["delta.enableDeletionVectors"] = "true" } },
}
