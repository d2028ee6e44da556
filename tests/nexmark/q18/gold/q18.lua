-- The last bid of each bidder on each auction.
return stream "gold.q18" {
  from    = "bronze.event",
  time    = { field = "dateTime", out_of_order = "4s" },
  where   = function(e) return e.event_type == 2 end,
  columns = { auction = "int64", bidder = "int64", price = "int64", channel = "string", url = "string", extra = "string" },
  map = function(e, out)
    local bid = e.new_bid
    out.auction, out.bidder, out.price, out.channel, out.url, out.extra = bid.auction, bid.bidder, bid.price, bid.channel, bid.url, bid.extra
  end,
  drop = { "event_type", "new_person", "new_auction", "new_bid" },
  key  = { "bidder", "auction" },
  into = delta { mode = "merge", properties = { ["delta.enableDeletionVectors"] = "true" } },
}
