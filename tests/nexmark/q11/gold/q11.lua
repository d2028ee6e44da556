-- User sessions: bids of a bidder without ten seconds between them.
return {
  stream "gold.bid" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 2 end,
    columns = { bidder = "int64" },
    map     = function(e, out) out.bidder = e.new_bid.bidder end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  model "gold.q11" {
    from     = "gold.bid",
    by       = { "bidder" },
    window   = session { gap = "10s" },
    measures = { bid_count = count() },
  },
}
