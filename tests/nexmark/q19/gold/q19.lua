-- The ten highest bids of each auction, kept true bid by bid.
return {
  stream "gold.bid" {
    from    = "bronze.event",
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", bidder = "int64", price = "int64", channel = "string", url = "string", extra = "string" },
    map     = function(e, out)
      local bid = e.new_bid
      out.auction, out.bidder, out.price, out.channel, out.url, out.extra = bid.auction, bid.bidder, bid.price, bid.channel, bid.url, bid.extra
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  model "gold.q19" {
    from = "gold.bid",
    top  = { n = 10, by = "-price", per = { "auction" }, rank = "rank_number" },
    into = delta { mode = "merge", properties = { ["delta.enableDeletionVectors"] = "true" } },
  },
}
