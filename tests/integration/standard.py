"""The standard pipeline of the integration tests: files -> JSON -> checks, dedup, a map -> silver -> one-minute gold.

One text for the rules Weir runs; tests/integration/oracle.py computes the same from the same files without Weir.
"""

import json

OUT_OF_ORDER_S = 5
WITHIN_S = 600
WINDOW_S = 60
LATENESS_S = 30

DECIMALS = {"unit_price": (10, 2), "discount": (10, 2), "gross": (12, 2), "vat": (12, 2)}
INPUT = [  # name, type, nullable, default
    ("event_id", "string", True, None),
    ("store_id", "int32", True, None),
    ("sku", "string", True, None),
    ("channel", "string", False, "store"),
    ("currency", "string", False, None),
    ("qty", "int32", True, None),
    ("unit_price", "decimal", True, None),
    ("discount", "decimal", True, None),
    ("gross", "decimal", True, None),
    ("vat", "decimal", True, None),
    ("weight", "double", True, None),
    ("receipt", "int64", True, None),
    ("sold_at", "timestamp", True, None),
]
SILVER = [name for name, *_ in INPUT if name != "vat"] + ["net"]
GOLD = ["sku", "window_start", "window_end", "units", "revenue", "sales", "mean_qty", "lightest", "heaviest", "weight",
        "stores", "refunds", "last_receipt", "mean_price"]

AVRO = {
    "string": "string", "int32": "int", "int64": "long", "double": "double",
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
}


def schema():
    fields = []
    for name, kind, nullable, default in INPUT:
        avro = AVRO.get(kind)
        if kind == "decimal":
            precision, scale = DECIMALS[name]
            avro = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
        field = {"name": name, "type": ["null", avro] if nullable else avro}
        if nullable:
            field["default"] = None
        elif default is not None:
            field["default"] = default
        fields.append(field)
    return json.dumps({"type": "record", "name": "sale", "fields": fields}, indent=2)


PIPELINE = """\
return pipeline "standard" {
  rules   = "rules",
  storage = delta { root = "lake" },
  commit  = { every = "100ms" },
  sources = {
    source "bronze.sale" { files { path = "landing/*" }, json { schema = "schemas/sale.avsc" }@BRONZE@ },
  },
}
"""

SILVER_RULE = """\
return stream "silver.sale" {
  from  = "bronze.sale",
  time  = { field = "sold_at", out_of_order = "5s" },
  where = function(e) return e.channel ~= "test" end,
  expectations = {
    expect "has a store"        { not_null "store_id" },
    expect "store in range"     { between("store_id", 1, 999) },
    expect "currency is traded" { one_of("currency", { "GBP", "EUR", "USD" }), on_violation = "drop" },
    expect "lines add up"       { function(e) return e.gross == e.qty * e.unit_price - e.discount end },
    expect "sku shape"          { matches("sku", [[^S\\d{3}$]]), on_violation = "warn" },
  },
  dedup   = { by = "event_id", within = "10m" },
  columns = { net = "decimal(12,2)" },
  map     = function(e, out) out.net = e.gross - e.vat end,
  drop    = { "vat" },
}
"""

GOLD_RULE = """\
return model "gold.velocity" {
  from     = "silver.sale",
  by       = { "sku" },
  window   = tumbling { size = "1m", allowed_lateness = "30s", late = "quarantine.late_sale" },
  measures = {
    units        = sum "qty",
    revenue      = sum "net",
    sales        = count(),
    mean_qty     = avg "qty",
    lightest     = min "weight",
    heaviest     = max "weight",
    weight       = sum "weight",
    stores       = distinct "store_id",
    refunds      = count { where = function(e) return e.qty < 0 end },
    last_receipt = max "receipt",
  },
  derive = { { mean_price = function(m) return m.revenue / m.units end, type = "decimal(14,4)" } },
}
"""


def write(project, bronze=True):
    project.write("schemas/sale.avsc", schema())
    project.write("pipelines/standard.lua", PIPELINE.replace("@BRONZE@", "" if bronze else ", into = none"))
    project.write("rules/silver/sale.lua", SILVER_RULE)
    project.write("rules/gold/velocity.lua", GOLD_RULE)
