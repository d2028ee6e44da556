local testing = require "weir.testing"

describe("silver.pos_sale", function()
  local sales, line
  before_each(function()
    sales = testing.load "silver.pos_sale"
    line = testing.record {
      event_id = "e1", store_id = 7, till = 3, sku = "SKU-10001", kind = "sale", qty = 2, unit_price = "3.00", discount = "1.00",
      gross = "5.00", vat = "0.83", currency = "GBP", card_no = "4929", sold_at = "2026-01-05T10:00:00Z",
    }
  end)

  it("passes a good line, with its net, without the card", function()
    sales:feed(line {}):finish()
    assert.same({ { event_id = "e1", net = "4.17" } }, sales:rows { "event_id", "net", "card_no" })
  end)

  it("keeps the first of two lines with one id, in any order of time", function()
    sales:feed(line { qty = 1, gross = "2.00" }, line { _at = "+1h" }):finish()
    assert.same({ { qty = 1 } }, sales:rows { "qty" })
  end)

  it("names everything that is wrong with a line", function()
    sales:feed(line { store_id = 1000, currency = "JPY", gross = "9.99" }):finish()
    assert.same({}, sales:rows())
    assert.same({ "store in range", "currency is traded", "lines add up" }, sales:rejected()[1].reasons)
  end)

  it("takes a corrected line after a rejected one", function()
    sales:feed(line { gross = "9.99" }, line {}):finish()
    assert.same({ { gross = "5.00" } }, sales:rows { "gross" })
  end)

  it("quarantines a line that was not sold at any time", function()
    sales:feed(line { sold_at = testing.null }):finish()
    assert.same({ "time" }, sales:rejected()[1].reasons)
  end)
end)
