-- What `weir init DIR` writes: a project that runs, with one rule and its spec.
local files = {
    {
        "pipelines/%s.lua",
        [[
-- What is read and where it is kept. Rules lie under rules/.
return pipeline "%s" {
  rules   = "rules",
  storage = delta { root = env("LAKE", "data/lake") },
  commit  = { every = "1s" },
  sources = {
    source "bronze.order" { files { path = "landing/*.jsonl" }, json { schema = "schemas/order.avsc" } },
  },
}
]],
    },
    {
        "rules/silver/order.lua",
        [[
return stream "silver.order" {
  description = "One row an order, valid and de-duplicated",
  from  = "bronze.order",
  time  = { field = "ordered_at", out_of_order = "5s" },
  dedup = { by = "order_id", within = "24h" },
  expectations = {
    expect "order has an id"  { not_null "order_id" },
    expect "quantity is sane" { between("quantity", 1, 1000) },
  },
  columns = { total = "decimal(12,2)" },
  map = function(e, out) out.total = e.price * e.quantity end,
}
]],
    },
    {
        "spec/rules/silver/order_spec.lua",
        [[
local testing = require "weir.testing"

describe("silver.order", function()
  local orders, order
  before_each(function()
    orders = testing.load "silver.order"
    order = testing.record { order_id = "o1", quantity = 2, price = "1.50", ordered_at = "2026-01-05T10:00:00Z" }
  end)

  it("totals an order", function()
    orders:feed(order {}):finish()
    assert.same({ { order_id = "o1", total = "3.00" } }, orders:rows { "order_id", "total" })
  end)

  it("keeps an order without an id out", function()
    orders:feed(order { order_id = testing.null }):finish()
    assert.same({ "order has an id" }, orders:rejected()[1].reasons)
  end)
end)
]],
    },
    {
        "schemas/order.avsc",
        [[
{ "type": "record", "name": "order", "fields": [
  { "name": "order_id",   "type": ["null", "string"] },
  { "name": "quantity",   "type": ["null", "int"] },
  { "name": "price",      "type": ["null", { "type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2 }] },
  { "name": "ordered_at", "type": ["null", { "type": "long", "logicalType": "timestamp-micros" }] }
] }
]],
    },
    {
        "landing/orders.jsonl",
        [[
{"order_id":"o1","quantity":2,"price":"1.50","ordered_at":"2026-01-05T10:00:00Z"}
{"order_id":"o2","quantity":0,"price":"9.99","ordered_at":"2026-01-05T10:00:01Z"}
{"order_id":"o1","quantity":2,"price":"1.50","ordered_at":"2026-01-05T10:00:00Z"}
]],
    },
    { ".gitignore", "data/\n" },
}

-- The files for a project of that name: { { path =, text = } … }.
return function(name)
    name = (name or "project"):lower():gsub("[^%w_]+", "_"):gsub("^([%d])", "p%1")
    local list = {}
    for i, file in ipairs(files) do
        list[i] = { path = (file[1]:gsub("%%s", name)), text = (file[2]:gsub("%%s", name)) }
    end
    return list
end
