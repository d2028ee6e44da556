-- The columns of the built-in retail generator (runtime/source/generator.h, weir_generator_avsc): the
-- checks need them before the source opens. A test compares the two texts' columns.
return {
    schema = [[
{ "type": "record", "name": "pos_sale", "fields": [
  { "name": "event_id",   "type": ["null", "string"], "default": null },
  { "name": "basket_id",  "type": ["null", "string"], "default": null },
  { "name": "store_id",   "type": ["null", "int"], "default": null },
  { "name": "sku",        "type": ["null", "string"], "default": null },
  { "name": "kind",       "type": ["null", "string"], "default": null },
  { "name": "qty",        "type": ["null", "int"], "default": null },
  { "name": "unit_price", "type": ["null", { "type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2 }], "default": null },
  { "name": "discount",   "type": ["null", { "type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2 }], "default": null },
  { "name": "gross",      "type": ["null", { "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2 }], "default": null },
  { "name": "vat",        "type": ["null", { "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2 }], "default": null },
  { "name": "currency",   "type": ["null", "string"], "default": null },
  { "name": "loyalty_id", "type": ["null", "string"], "default": null },
  { "name": "card_no",    "type": ["null", "string"], "default": null },
  { "name": "sold_at",    "type": ["null", { "type": "long", "logicalType": "timestamp-micros" }], "default": null }
] }
]],
}
