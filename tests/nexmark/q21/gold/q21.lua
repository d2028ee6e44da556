-- The channel's id: known ones by name, others from the address.
local known = { apple = "0", google = "1", facebook = "2", baidu = "3" }

local function channel_id(bid)
  return known[bid.channel:lower()] or bid.url:match("&channel_id=([^&]*)")
end

return stream "gold.q21" {
  from    = "bronze.event",
  where   = function(e) return e.event_type == 2 and channel_id(e.new_bid) ~= nil end,
  columns = { auction = "int64", bidder = "int64", price = "int64", channel = "string", channel_id = "string" },
  map = function(e, out)
    local bid = e.new_bid
    out.auction, out.bidder, out.price, out.channel, out.channel_id = bid.auction, bid.bidder, bid.price, bid.channel, channel_id(bid)
  end,
  drop = { "event_type", "new_person", "new_auction", "new_bid", "dateTime" },
}
