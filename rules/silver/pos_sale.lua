return stream "silver.pos_sale" {
  description = "One row a till line, valid and de-duplicated",
  owner   = "store-systems",
  from    = "bronze.pos_sale",
  time    = { field = "sold_at", out_of_order = "5s", idle = "30s" },
  dedup   = { by = "event_id", within = "24h" },
  expectations = {
    expect "sale has an id"     { not_null "event_id" },
    expect "sale has a product" { not_null "sku" },
    expect "store in range"     { between("store_id", 1, 999) },
    expect "currency is traded" { one_of("currency", { "GBP", "EUR", "USD" }) },
    expect "lines add up"       { function(e) return e.gross == e.qty * e.unit_price - e.discount end,
                                  because = "till firmware 4.2 rounded discounts twice" },
  },
  columns = { net = "decimal(12,2)" },
  map  = function(e, out) out.net = e.gross - e.vat end,        -- fields not assigned pass through
  drop = { "card_no" },
}
