-- The highest bids of each ten seconds, whole.
return {
  stream "gold.bid" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", bidder = "int64", price = "int64", extra = "string" },
    map     = function(e, out)
      local bid = e.new_bid
      out.auction, out.bidder, out.price, out.extra = bid.auction, bid.bidder, bid.price, bid.extra
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  model "gold.q7" {
    from   = "gold.bid",
    window = tumbling "10s",
    top    = { n = 1, by = "-price", ties = "all" },
  },
}
