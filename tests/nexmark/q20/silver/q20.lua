return {
  stream "silver.auction" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 1 and e.new_auction.category == 10 end,
    columns = {
      id = "int64", itemName = "string", description = "string", initialBid = "int64", reserve = "int64",
      opened = "timestamp", expires = "timestamp", seller = "int64", category = "int64", auction_extra = "string",
    },
    map = function(e, out)
      local auction = e.new_auction
      out.id, out.itemName, out.description, out.initialBid, out.reserve, out.opened, out.expires, out.seller, out.category, out.auction_extra =
        auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve,
        auction.dateTime, auction.expires, auction.seller, auction.category, auction.extra
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  stream "silver.bid" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", bidder = "int64", price = "int64", channel = "string", url = "string", extra = "string" },
    map = function(e, out)
      local bid = e.new_bid
      out.auction, out.bidder, out.price, out.channel, out.url, out.extra = bid.auction, bid.bidder, bid.price, bid.channel, bid.url, bid.extra
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
}
