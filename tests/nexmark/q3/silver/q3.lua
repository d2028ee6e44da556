return {
  stream "silver.auction" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where   = function(e) return e.event_type == 1 and e.new_auction.category == 10 end,
    columns = { id = "int64", seller = "int64" },
    map     = function(e, out) out.id, out.seller = e.new_auction.id, e.new_auction.seller end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
  stream "silver.person" {
    from    = "bronze.event",
    time    = { field = "dateTime", out_of_order = "4s" },
    where = function(e)
      if e.event_type ~= 0 then return false end
      local state = e.new_person.state
      return state == "OR" or state == "ID" or state == "CA"
    end,
    columns = { person = "int64", name = "string", city = "string", state = "string" },
    map = function(e, out)
      local person = e.new_person
      out.person, out.name, out.city, out.state = person.id, person.name, person.city, person.state
    end,
    drop    = { "event_type", "new_person", "new_auction", "new_bid" },
    into    = none,
  },
}
