-- Selection: bids on some auctions.
return stream "gold.q2" {
  from    = "bronze.event",
  where   = function(e) return e.event_type == 2 and e.new_bid.auction % 123 == 0 end,
  columns = { auction = "int64", price = "int64" },
  map = function(e, out)
    out.auction, out.price = e.new_bid.auction, e.new_bid.price
  end,
  drop = { "event_type", "new_person", "new_auction", "new_bid", "dateTime" },
}
