-- Builds the C columns of a batch from Lua rows, for specs of row views and generated loops.
local ffi = require "ffi"
local types = require "weir.internal.types"
local value = require "weir.internal.value"

local columns = {}
local anchors = {}

local function keep(x)
    anchors[#anchors + 1] = x
    return x
end

function columns.release()
    anchors = {}
end

local code = {
    bool = 1, int8 = 2, int16 = 3, int32 = 4, int64 = 5, float = 6, double = 7, decimal = 8, string = 9, binary = 10, date = 11,
    timestamp = 12, timestamp_ntz = 13, timestamp_ns = 14, timestamp_ns_ntz = 15, list = 16, struct = 17, map = 18,
}
local width = {
    int8 = "int8_t", int16 = "int16_t", int32 = "int32_t", int64 = "int64_t", float = "float", double = "double", date = "int32_t",
    timestamp = "int64_t", timestamp_ntz = "int64_t", timestamp_ns = "int64_t", timestamp_ns_ntz = "int64_t",
}

-- nil stands for null; `values` is { n = count, … }.
function columns.fill(c, t, values)
    local n = values.n
    c.length, c.type, c.precision, c.scale = n, code[t.kind], t.precision or 0, t.scale or 0
    local validity = keep(ffi.new("uint8_t[?]", math.floor(n / 8) + 1))
    local nulls = 0
    for i = 1, n do
        if values[i] == nil then
            nulls = nulls + 1
        else
            local b = math.floor((i - 1) / 8)
            validity[b] = bit.bor(validity[b], bit.lshift(1, (i - 1) % 8))
        end
    end
    c.null_count = nulls
    c.validity = nulls > 0 and validity or nil
    if width[t.kind] then
        local data = keep(ffi.new(width[t.kind] .. "[?]", n + 1))
        for i = 1, n do
            data[i - 1] = values[i] == nil and 0 or values[i]
        end
        c.values = data
    elseif t.kind == "bool" then
        local data = keep(ffi.new("uint8_t[?]", math.floor(n / 8) + 1))
        for i = 1, n do
            if values[i] then
                local b = math.floor((i - 1) / 8)
                data[b] = bit.bor(data[b], bit.lshift(1, (i - 1) % 8))
            end
        end
        c.values = data
    elseif t.kind == "decimal" then
        local data = keep(ffi.new("int64_t[?]", 2 * n + 2))
        for i = 1, n do
            if values[i] ~= nil then
                local d = value.rescale(value.decimal(values[i]), t.scale)
                if ffi.istype(value.Wide, d) then
                    data[2 * i - 2], data[2 * i - 1] = ffi.cast("int64_t", d.lo), d.hi
                else
                    data[2 * i - 2], data[2 * i - 1] = d.v, d.v < 0 and -1 or 0
                end
            end
        end
        c.values = data
    elseif t.kind == "string" or t.kind == "binary" then
        local offsets = keep(ffi.new("int32_t[?]", n + 1))
        local parts, at = {}, 0
        for i = 1, n do
            offsets[i - 1] = at
            parts[i] = values[i] or ""
            at = at + #parts[i]
        end
        offsets[n] = at
        local text = table.concat(parts)
        local data = keep(ffi.new("uint8_t[?]", #text + 1))
        ffi.copy(data, text, #text)
        c.values, c.offsets = data, offsets
    elseif t.kind == "list" or t.kind == "map" then
        local offsets = keep(ffi.new("int32_t[?]", n + 1))
        local flat, other = { n = 0 }, { n = 0 }
        for i = 1, n do
            offsets[i - 1] = flat.n
            for _, item in ipairs(values[i] or {}) do
                flat.n, other.n = flat.n + 1, other.n + 1
                if t.kind == "list" then
                    flat[flat.n] = item ~= columns.null and item or nil
                else
                    flat[flat.n], other[other.n] = item[1], item[2]
                end
            end
        end
        offsets[n] = flat.n
        c.offsets = offsets
        c.children = keep(ffi.new("struct weir_column[?]", 2))
        c.child_count = t.kind == "list" and 1 or 2
        columns.fill(c.children[0], t.element or t.key, flat)
        if t.kind == "map" then
            columns.fill(c.children[1], t.value, other)
        end
    elseif t.kind == "struct" then
        c.children = keep(ffi.new("struct weir_column[?]", #t.fields))
        c.child_count = #t.fields
        for k, field in ipairs(t.fields) do
            local part = { n = n }
            for i = 1, n do
                part[i] = values[i] and values[i][field.name]
            end
            columns.fill(c.children[k - 1], field.type, part)
        end
    end
end
columns.null = {}

-- schema: { { "name", "type" } … }; rows: list of { name = value }. Returns the parsed schema and a call.
function columns.batch(schema, rows, out_schema)
    local parsed, n = {}, #rows
    local input = keep(ffi.new("struct weir_column[?]", #schema))
    for k, field in ipairs(schema) do
        local t = types.of(field[2])
        parsed[k] = { name = field[1], type = t, nullable = true }
        local values = { n = n }
        for i, row in ipairs(rows) do
            values[i] = row[field[1]]
        end
        columns.fill(input[k - 1], t, values)
    end
    local sel = keep(ffi.new("int32_t[?]", n + 1))
    for i = 0, n - 1 do
        sel[i] = i
    end
    local call = keep(ffi.new "struct weir_call")
    call["in"], call.sel, call.begin, call["end"], call.rows = input, sel, 0, n, n
    call.verdict = keep(ffi.new("uint8_t[?]", n + 1))
    local out_parsed = {}
    if out_schema then
        call.out = keep(ffi.new("struct weir_column[?]", #out_schema))
        call.out_var = keep(ffi.new("struct weir_out *[?]", #out_schema))
        call.assigned = keep(ffi.new("uint8_t *[?]", #out_schema))
        for k, field in ipairs(out_schema) do
            local t = types.of(field[2])
            out_parsed[k] = { name = field[1], type = t, nullable = true }
            local c = call.out[k - 1]
            c.length, c.null_count = n, n
            c.validity = keep(ffi.new("uint8_t[?]", math.floor(n / 8) + 1))
            c.values = keep(ffi.new("int64_t[?]", 2 * n + 2))
            call.assigned[k - 1] = keep(ffi.new("uint8_t[?]", n + 1))
            if t.kind == "string" or t.kind == "binary" then
                call.out_var[k - 1] = ffi.C.test_out()
            end
        end
    end
    return parsed, call, out_parsed
end

local reading = {
    int8 = "int8_t *", int16 = "int16_t *", int32 = "int32_t *", int64 = "int64_t *", float = "float *", double = "double *",
    date = "int32_t *", timestamp = "int64_t *", timestamp_ns = "int64_t *",
}

-- What map stored in output column k (from 1) for row i (from 1): a plain value, digits, or nil.
function columns.out(call, out_parsed, k, i)
    local t, c = out_parsed[k].type, call.out[k - 1]
    if t.kind == "string" or t.kind == "binary" then
        local text = ffi.C.test_out_text(call.out_var[k - 1], i - 1)
        return text ~= nil and ffi.string(text) or nil
    elseif bit.band(c.validity[math.floor((i - 1) / 8)], bit.lshift(1, (i - 1) % 8)) == 0 then
        return nil
    elseif t.kind == "bool" then
        return bit.band(ffi.cast("uint8_t *", c.values)[math.floor((i - 1) / 8)], bit.lshift(1, (i - 1) % 8)) ~= 0
    elseif t.kind == "decimal" then
        local w = ffi.cast("int64_t *", c.values)
        return tostring(value.narrow(value.Wide(ffi.cast("uint64_t", w[2 * i - 2]), w[2 * i - 1], t.scale)))
    end
    local v = ffi.cast(reading[t.kind], c.values)[i - 1]
    return type(v) == "cdata" and value.digits(v) or v
end

return columns
