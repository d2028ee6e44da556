return {
  stream "silver.auction" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 1 end,
    columns = { id = "int64", expires = "timestamp", category = "int64" },
    map = function(e, out)
      local auction = e.new_auction
      out.id, out.expires, out.category =
        auction.id, auction.expires, auction.category
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  stream "silver.bid" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 2 end,
    columns = { auction = "int64", price = "int64" },
    map = function(e, out)
      local bid = e.new_bid
      out.auction, out.price = bid.auction, bid.price
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
  model "silver.winning" { from = "silver.auction_bid", by = { "id", "category" }, measures = { final = max "price" }, into = none },
}
