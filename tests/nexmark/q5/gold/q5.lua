-- Hot items: the auctions with the most bids in the last ten seconds, every two seconds.
return {
  stream "gold.bid" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64" },
    map     = function(e, out) out.auction = e.new_bid.auction end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  model "gold.q5" {
    from     = "gold.bid",
    by       = { "auction" },
    window   = hopping { size = "10s", every = "2s" },
    measures = { num = count() },
    top      = { n = 1, by = "-num", per = { "window_start" }, ties = "all" },
  },
}
