-- Calculation: conversion, a CASE over the hour, a function over text.
local function letters(text, letter)
  local _, found = text:gsub(letter, "")
  return found
end

return stream "gold.q14" {
  from  = "bronze.event",
  where = function(e)
    if e.event_type ~= 2 then
      return false
    end
    local euros = e.new_bid.price * 0.908
    return euros > 1000000 and euros < 50000000
  end,
  columns = {
    auction = "int64", bidder = "int64", price = "decimal(23,3)", bidTimeType = "string", dateTime = "timestamp", extra = "string", c_counts = "int64",
  },
  map = function(e, out)
    local bid = e.new_bid
    local h = hour(bid.dateTime)
    out.auction, out.bidder, out.price, out.dateTime, out.extra = bid.auction, bid.bidder, bid.price * 0.908, bid.dateTime, bid.extra
    out.bidTimeType = (h >= 8 and h <= 18) and "dayTime" or (h <= 6 or h >= 20) and "nightTime" or "otherTime"
    out.c_counts = letters(bid.extra, "c")
  end,
  drop = { "event_type", "new_person", "new_auction", "new_bid" },
}
