-- What another team watches on the same dataset: judged on what leaves silver.pos_sale.
return quality "silver.pos_sale" {
  expect "loyalty id shape" { matches("loyalty_id", [[^L\d{8}$]]), on_violation = "warn" },
}
