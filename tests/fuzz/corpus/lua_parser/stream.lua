-- silver
local vat = require "lib.vat"
return stream "silver.pos" {
  expectations = { expect "sum" { function(e) return e.gross == e.qty * e.price ^ 2 end, because = [[till]] } },
  map = function(e, out) out.net = e.gross - e.vat end, drop = { "card", [1 + 2] = 5LL },
}
