return {
  stream "silver.auction" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 1 end,
    columns = {
      id = "int64", itemName = "string", description = "string", initialBid = "int64",
      reserve = "int64", expires = "timestamp", seller = "int64", category = "int64", extra = "string",
    },
    map = function(e, out)
      local auction = e.new_auction
      out.id, out.itemName, out.description, out.initialBid, out.reserve, out.expires, out.seller, out.category, out.extra =
        auction.id, auction.itemName, auction.description, auction.initialBid,
        auction.reserve, auction.expires, auction.seller, auction.category, auction.extra
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  stream "silver.bid" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", bidder = "int64", price = "int64", bid_time = "timestamp", bid_extra = "string" },
    map = function(e, out)
      local bid = e.new_bid
      out.auction, out.bidder, out.price, out.bid_time, out.bid_extra = bid.auction, bid.bidder, bid.price, bid.dateTime, bid.extra
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  stream "silver.auction_bid" {
    from = "silver.auction",
    join = { bid = interval_join "silver.bid" { on = { id = "auction" }, between = { "0s", "expires" } } },
    map  = function(e, out, j) copy(out, j.bid) end,
    into = none,
  },
}
