#!x
goto out ::again:: for i = 1, 10, 2 do if i > 3 and not x or #y ~= -1 then break elseif z then x = i else goto again end end
for k, v in pairs(t) do repeat local a = k until a while true do do end end end ::out::
function a.b:c(d, ...) local function e() return d, ... end self.x, y = e(), {...} end