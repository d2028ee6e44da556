-- Who sells what in three states: people sell soon after they came.
return stream "gold.q3" {
  from = "silver.auction",
  join = { person = interval_join "silver.person" { on = { seller = "person" }, between = { "-1h", "10s" } } },
  map  = function(e, out, j) copy(out, j.person) end,
  drop = { "seller", "dateTime" },
}
