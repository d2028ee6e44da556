-- Statistics of bids by day: counts and distinct counts with filters, kept true bid by bid.
local function cheap(e) return e.price < 10000 end
local function middling(e) return e.price >= 10000 and e.price < 1000000 end
local function dear(e) return e.price >= 1000000 end

return {
  stream "gold.bid" {
    from    = "bronze.event",
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", bidder = "int64", price = "int64", day = "string" },
    map     = function(e, out)
      local bid = e.new_bid
      out.auction, out.bidder, out.price, out.day = bid.auction, bid.bidder, bid.price, format(bid.dateTime, "%Y-%m-%d")
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid", "dateTime" },
    into    = none,
  },
  model "gold.q15" {
    from     = "gold.bid",
    by       = { "day" },
    measures = {
      total_bids = count(), rank1_bids = count { where = cheap }, rank2_bids = count { where = middling }, rank3_bids = count { where = dear },
      total_bidders = distinct "bidder", rank1_bidders = distinct("bidder", { where = cheap }),
      rank2_bidders = distinct("bidder", { where = middling }), rank3_bidders = distinct("bidder", { where = dear }),
      total_auctions = distinct "auction", rank1_auctions = distinct("auction", { where = cheap }),
      rank2_auctions = distinct("auction", { where = middling }), rank3_auctions = distinct("auction", { where = dear }),
    },
    into = delta { mode = "merge", properties = { ["delta.enableDeletionVectors"] = "true" } },
  },
}
