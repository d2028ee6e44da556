-- Bids with what a side input says of their auction, as it is when the bid comes.
return {
  stream "silver.side" { from = "bronze.side", key = "key", into = none },
  stream "silver.slot" {
    from    = "bronze.event",
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", bidder = "int64", price = "int64", slot = "int64" },
    map = function(e, out)
      local bid = e.new_bid
      out.auction, out.bidder, out.price, out.slot = bid.auction, bid.bidder, bid.price, bid.auction % 10000
    end,
    drop = { "event_type", "new_person", "new_auction", "new_bid" },
    into = none,
  },
  stream "gold.q13" {
    from    = "silver.slot",
    join    = { side = lookup "silver.side" { on = { slot = "key" } } },
    columns = { value = "string" },
    map  = function(e, out, j) out.value = j.side.value end,
    drop = "slot",
  },
}
