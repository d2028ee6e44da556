-- Bids of a bidder in windows of ten seconds of processing time: the time rows came in, which is recorded.
return {
  stream "gold.bid" {
    from    = "bronze.event",
    where   = function(e) return e.event_type == 2 end,
    columns = { bidder = "int64", _ingested_at = "timestamp" },
    map     = function(e, out) out.bidder = e.new_bid.bidder end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid", "dateTime" },
    into    = none,
  },
  model "gold.q12" {
    from     = "gold.bid",
    time     = { field = "_ingested_at" },
    by       = { "bidder" },
    window   = tumbling "10s",
    measures = { bid_count = count() },
  },
}
