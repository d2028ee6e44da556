-- What the process listens on: serve = { http = { port = 8080, … } }.
local json = require "weir.internal.json"

local serve = {}

local http_options = { port = true, address = true, tls = true, connections = true, timeout = true, idle = true }
local tls_options = { cert = true, key = true, client_ca = true }

-- A whole number within bounds; env and --set give texts.
local function whole(reader, field, what, least, most)
    if not field then
        return nil
    end
    local x = reader:resolve(field.value, field.value_at)
    if x == nil then
        return nil
    end
    local n = type(x) == "string" and tonumber(x) or x
    if type(n) ~= "number" or n % 1 ~= 0 or n < least or n > most then
        reader:error("type", field.value_at, ("%s takes a whole number from %d to %d"):format(what, least, most))
        return nil
    end
    return n
end

local function path_of(project, reader, field, what)
    local path = reader:want(field, "string", what, "a file")
    return path and project.path(path) or json.null
end

local function tls(project, reader, field)
    local t = reader:want(field, "table", "serve.http.tls", "a table with cert and key")
    if not t then
        return json.null
    end
    local named = reader:options(t, field.value_at, tls_options, "serve.http.tls", false)
    if not named.cert or not named.key then
        reader:error("type", field.value_at, "serve.http.tls needs cert and key", 'tls = { cert = "tls/server.crt", key = "tls/server.key" }')
    end
    return {
        cert = path_of(project, reader, named.cert, "serve.http.tls.cert"), key = path_of(project, reader, named.key, "serve.http.tls.key"),
        client_ca = path_of(project, reader, named.client_ca, "serve.http.tls.client_ca"),
    }
end

-- The plan's `serve`, or nil. `field`: the pipeline's option.
function serve.plan(project, reader, field)
    local t = reader:want(field, "table", "serve", "a table such as { http = { port = 8080 } }")
    if not t then
        return nil
    end
    local http = reader:options(t, field.value_at, { http = true }, "serve", false).http
    local options = reader:want(http, "table", "serve.http", "a table such as { port = 8080 }")
    if not options then
        return nil
    end
    local named = reader:options(options, http.value_at, http_options, "serve.http", false)
    if not named.port then
        reader:error("type", http.value_at, "serve.http needs a port", "port = 8080, or 0 for one the system picks")
    end
    return {
        http = {
            port = whole(reader, named.port, "serve.http.port", 0, 65535) or 0,
            address = reader:want(named.address, "string", "serve.http.address", "an IP address") or "127.0.0.1",
            tls = named.tls and tls(project, reader, named.tls) or json.null,
            connections = whole(reader, named.connections, "serve.http.connections", 1, 60000) or 1000,
            timeout_us = reader:duration(named.timeout, "serve.http.timeout") or 30000000,
            idle_us = reader:duration(named.idle, "serve.http.idle") or 60000000,
        },
    }
end

-- Sources that take requests need the listener.
function serve.check_sources(reader, plan, sources)
    for _, source in ipairs(sources) do
        if source.connector.kind == "http" and not plan.serve then
            reader:error("type", { file = source.file, line = source.line, col = source.column },
                ("source %q takes HTTP requests, but the pipeline does not listen"):format(source.name),
                "add serve = { http = { port = 8080 } } to the pipeline")
        end
    end
end

return serve
