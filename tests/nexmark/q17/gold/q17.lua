-- Statistics of an auction's bids by day.
local function cheap(e) return e.price < 10000 end
local function middling(e) return e.price >= 10000 and e.price < 1000000 end
local function dear(e) return e.price >= 1000000 end

return {
  stream "gold.bid" {
    from    = "bronze.event",
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", price = "int64", day = "string" },
    map     = function(e, out)
      local bid = e.new_bid
      out.auction, out.price, out.day = bid.auction, bid.price, format(bid.dateTime, "%Y-%m-%d")
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid", "dateTime" },
    into    = none,
  },
  model "gold.q17" {
    from     = "gold.bid",
    by       = { "auction", "day" },
    measures = {
      total_bids = count(), rank1_bids = count { where = cheap }, rank2_bids = count { where = middling }, rank3_bids = count { where = dear },
      min_price = min "price", max_price = max "price", avg_price = avg "price", sum_price = sum "price",
    },
    into = delta { mode = "merge", properties = { ["delta.enableDeletionVectors"] = "true" } },
  },
}
