return {
  stream "silver.person" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 0 end,
    columns = { id = "int64", name = "string" },
    map     = function(e, out) out.id, out.name = e.new_person.id, e.new_person.name end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  stream "silver.auction" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 1 end,
    columns = { seller = "int64" },
    map     = function(e, out) out.seller = e.new_auction.seller end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  model "silver.new_person" { from = "silver.person", by = { "id", "name" }, window = tumbling "10s", measures = { people = count() }, into = none },
  model "silver.new_seller" { from = "silver.auction", by = { "seller" }, window = tumbling "10s", measures = { auctions = count() }, into = none },
}
