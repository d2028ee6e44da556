return model "gold.sales_velocity" {
  description = "Units and revenue by SKU, each minute",
  owner    = "retail-analytics",
  from     = "silver.pos_sale",
  where    = function(e) return e.kind == "sale" end,
  by       = { "sku" },
  window   = tumbling { size = "1m", allowed_lateness = "1m", late = "quarantine.late_sale" },
  measures = { units = sum "qty", revenue = sum "net", lines = count(), dearest = max "unit_price" },
  derive   = { { mean_price = function(m) return m.revenue / m.units end, type = "decimal(14,4)" } },
  tests    = { unique { "sku", "window_start" }, expect "revenue is known" { not_null "revenue", on_violation = "warn" } },
  emit     = "on_close",
  into     = delta { partition_by = { date "window_start" } },
}
