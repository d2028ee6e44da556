-- The columns of the built-in retail generator (runtime/source/generator.h, weir_generator_avsc): the
-- checks need them before the source opens. A test compares the two texts' columns.
return {
    schema = [[
{"type": "record", "name": "pos_sale", "doc": "One till line", "fields": [
  {"name": "event_id", "type": ["null", "string"]},
  {"name": "store_id", "type": ["null", "int"]},
  {"name": "till", "type": ["null", "int"]},
  {"name": "sku", "type": ["null", "string"]},
  {"name": "qty", "type": ["null", "int"]},
  {"name": "unit_price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
  {"name": "discount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
  {"name": "vat", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
  {"name": "gross", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
  {"name": "currency", "type": ["null", "string"]},
  {"name": "kind", "type": "string"},
  {"name": "loyalty_id", "type": ["null", "string"]},
  {"name": "card_no", "type": ["null", "string"]},
  {"name": "sold_at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]}
]}
]],
}
