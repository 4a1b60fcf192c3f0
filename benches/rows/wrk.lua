-- What wrk sends and says. Arguments: the method, and where requests have tokens of their own, the prefix of the files with the
-- tokens, one file a thread, and "again" where each is used over and over, or "once" where it dies with its request. Then, where the
-- token is the field of a form, the value of the header Authorization; and the pause before each request in milliseconds.

local threads = {}

function setup(thread)
    thread:set("number", #threads)
    table.insert(threads, thread)
end

function init(args)
    ran_out = false
    wrk.method = args[1]
    if #args == 1 then return end
    local authorization, pause_ms = args[4] or "", tonumber(args[5] or 0)
    if pause_ms > 0 then
        delay = function() return pause_ms end
    end
    local start = wrk.method .. " " .. wrk.path .. " HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
    local before = start .. "Bearer "
    local after = wrk.method == "GET" and "\r\n\r\n" or "\r\nContent-Length: 0\r\n\r\n"
    local tokens = assert(io.open(args[2] .. number))
    if args[3] == "once" then
        request = function()
            local token = tokens:read()
            if not token then
                ran_out = true
                wrk.thread:stop()
                token = ""
            end
            return before .. token .. after
        end
    else
        local requests = {}
        for token in tokens:lines() do
            if authorization == "" then
                table.insert(requests, before .. token .. after)
            else
                table.insert(requests, start .. authorization .. "\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                    .. "Content-Length: " .. (#token + 6) .. "\r\n\r\ntoken=" .. token)
            end
        end
        local turn = 0
        request = function()
            turn = turn % #requests + 1
            return requests[turn]
        end
    end
end

function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    local short = 0
    for _, thread in ipairs(threads) do
        if thread:get("ran_out") then short = short + 1 end
    end
    io.write(string.format("found %d %d %d %d %d\n", summary.requests, summary.duration, failed, short,
        latency:percentile(99)))
end
