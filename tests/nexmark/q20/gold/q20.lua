-- Bids with their auction, of one category: bids come while it runs.
return stream "gold.q20" {
  from = "silver.bid",
  join = { item = interval_join "silver.auction" { on = { auction = "id" }, between = { "-1h", "10s" } } },
  map  = function(e, out, j) copy(out, j.item) end,
  drop = { "dateTime" },
}
