-- Pass through: what it costs to move bids.
return stream "gold.q0" {
  from    = "bronze.event",
  where   = function(e) return e.event_type == 2 end,
  columns = { auction = "int64", bidder = "int64", price = "int64", dateTime = "timestamp", extra = "string" },
  map = function(e, out)
    local bid = e.new_bid
    out.auction, out.bidder, out.price, out.dateTime, out.extra = bid.auction, bid.bidder, bid.price, bid.dateTime, bid.extra
  end,
  drop = { "event_type", "new_person", "new_auction", "new_bid" },
}
