local testing = require "weir.testing"

describe("gold.sales_velocity", function()
  local velocity, sale
  before_each(function()
    velocity = testing.load "gold.sales_velocity"
    sale = testing.record { event_id = "e1", sku = "A", kind = "sale", qty = 2, unit_price = "3.00", net = "5.00", sold_at = "2026-01-05T10:00:10Z" }
  end)

  it("sums a minute by SKU", function()
    velocity:feed(sale {}, sale { _at = "+20s", qty = 1, net = "2.00" }, sale { sku = "B" }, sale { _at = "+50s" }):finish()
    local rows = velocity:rows { "sku", "window_start", "units", "revenue", "mean_price" }
    table.sort(rows, function(a, b) return a.sku .. a.window_start < b.sku .. b.window_start end)
    assert.same({
      { sku = "A", window_start = "2026-01-05T10:00:00Z", units = 3, revenue = "7.00", mean_price = "2.3333" },
      { sku = "A", window_start = "2026-01-05T10:01:00Z", units = 2, revenue = "5.00", mean_price = "2.5000" },
      { sku = "B", window_start = "2026-01-05T10:00:00Z", units = 2, revenue = "5.00", mean_price = "2.5000" },
    }, rows)
  end)

  it("counts sales only", function()
    velocity:feed(sale { kind = "return" }):finish()
    assert.same({}, velocity:rows())
  end)

  it("sends what comes after its lateness to the late dataset", function()
    velocity:feed(sale {}):watermark("2026-01-05T10:02:05Z"):feed(sale { event_id = "e2" }):finish()
    assert.equal(1, #velocity:rows())
    assert.equal("e2", velocity:emitted("quarantine.late_sale")[1].event_id)
  end)
end)
