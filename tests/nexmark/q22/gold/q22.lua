-- The folders of an address.
return stream "gold.q22" {
  from    = "bronze.event",
  where   = function(e) return e.event_type == 2 end,
  columns = { auction = "int64", bidder = "int64", price = "int64", channel = "string", dir1 = "string", dir2 = "string", dir3 = "string" },
  map = function(e, out)
    local bid = e.new_bid
    out.auction, out.bidder, out.price, out.channel = bid.auction, bid.bidder, bid.price, bid.channel
    out.dir1, out.dir2, out.dir3 = bid.url:match("^[^/]*//[^/]*/([^/]*)/([^/]*)/([^/]*)")
  end,
  drop = { "event_type", "new_person", "new_auction", "new_bid", "dateTime" },
}
