-- What is proven to be a copy, and what is not: nothing that a branch, a second assignment, another use or another type puts in doubt.
require "spec.stdlib.helper"
local native = require "weir.native"
local copies = require "weir.internal.copies"
local syntax = require "weir.internal.syntax"
local types = require "weir.internal.types"

local function schema(text)
    local columns = {}
    for name, kind in text:gmatch "(%w+)=([^;]+)" do
        columns[#columns + 1] = { name = name, type = types.of(kind) }
    end
    return columns
end

local INPUT = schema "id=int64;bid=struct<price: int64, url: string, at: struct<day: date>>;url=string"
local OUT = schema "price=int64;url=string;day=date;n=int32;at=struct<day: date>"

-- { out column = path as text } of a body, whether that is all, and what is not read.
local function found(body, retyped)
    local source = "return function(e, out)\n" .. body .. "\nend"
    local ast = assert(native.parse(source, "=copies"))
    local node
    syntax.walk(ast, function(n)
        node = node or n.tag == "FunctionExpr" and n or nil
    end)
    local made = copies.find(node, INPUT, OUT, retyped)
    if not made then
        return nil
    end
    local list = {}
    for k, path in pairs(made.columns) do
        list[OUT[k + 1].name] = table.concat(path, ".")
    end
    return list, made.all, made
end

describe("copies", function()
    it("are assignments of paths, also by way of locals", function()
        local list, all, made = found "local bid = e.bid\n out.price, out.url = bid.price, bid.url\n out.day = (bid.at).day"
        assert.same({ price = "1.0", url = "1.1", day = "1.2.0" }, list)
        assert.is_true(all)
        assert.same({ { 1 }, { 1, 2 } }, made.through)
        assert.same({ [2] = { true, true, { true } } }, made.unread)
    end)

    it("leave what is computed to the function", function()
        local list, all, made = found "out.price = e.bid.price * 2\n out.url = e.url"
        assert.same({ url = "2" }, list)
        assert.is_false(all)
        assert.same({ [3] = true }, made.unread)
    end)

    it("are read on where something else reads them", function()
        local _, _, made = found "out.url = e.url\n out.n = #e.url"
        assert.same({}, made.unread)
        _, _, made = found "local bid = e.bid\n out.url = bid.url\n out.n = helper(bid)"
        assert.same({}, made.unread)
        _, _, made = found "out.url = e.bid.url\n out.n = helper(e)"
        assert.same({}, made.unread)
        _, _, made = found "out.url = e.bid.url\n if e.id > 2 then local b = e.bid out.n = helper(b) end"
        assert.same({}, made.unread)
    end)

    it("of a struct leave what is in it to what reads that", function()
        local list, _, made = found "out.at = e.bid.at\n out.n = e.bid.at.day:year()"
        assert.same({ at = "1.2" }, list)
        assert.same({}, made.unread)
        _, _, made = found "out.at, out.price = e.bid.at, e.bid.price\n out.n = helper(e.bid.at.day)"
        assert.same({ [2] = { true } }, made.unread)
        list, _, made = found "out.at, out.day = e.bid.at, e.bid.at.day\n out.n = helper(e.id)"
        assert.same({ at = "1.2", day = "1.2.0" }, list)
        assert.same({ [2] = { [3] = { true } } }, made.unread)
        _, _, made = found "local at = e.bid.at\n local day = at.day\n out.at = at\n out.n = helper(e.id)"
        assert.same({}, made.unread)
    end)

    it("are none where a branch or an early end may leave them out", function()
        assert.is_nil(found "if e.id > 1 then out.url = e.url end")
        assert.is_nil(found "if e.id > 1 then return end\n out.url = e.url")
        assert.is_nil(found "for i = 1, 2 do out.url = e.url end")
        assert.is_nil(found "out.url = e.url\n do return end")
    end)

    it("are none where something assigns again, reads or hands on", function()
        assert.is_nil(found "out.url = e.url\n out.url = 'x'")
        assert.is_nil(found "out.url = e.url\n if e.id > 1 then out.url = nil end")
        assert.is_nil(found "out.url = e.url\n out.n = #out.url")
        assert.is_nil(found "out.url = e.url\n helper(out)")
        assert.is_nil(found "out.url = e.url\n local o = out")
        assert.is_nil(found "out.url = e.url\n out[e.url] = 1")
        assert.is_nil(found "local f = function() end\n out.url = e.url")
    end)

    it("are none by names that are not what they seem", function()
        assert.is_nil(found "local e = helper(e)\n out.url = e.url")
        assert.is_nil(found "e = helper(e)\n out.url = e.url")
        assert.is_nil(found "local out = {}\n out.url = e.url")
        assert.is_nil(found "local b = e.bid\n b = helper()\n out.url = b.url")
        assert.is_nil(found "local b = e.bid\n local b = helper()\n out.url = b.url")
        assert.is_nil(found "local b = helper()\n out.url = b.url")
        assert.is_nil(found "local b, c = e.bid\n out.url = c.url")
    end)

    it("keep the type, and leave what is passed on retyped alone", function()
        assert.is_nil(found "out.n = e.id")
        assert.is_nil(found("out.url = e.url", { 1 }))
        assert.is_nil(found "out.url = e.nothing")
    end)
end)
