-- What wrk sends and says. Arguments: the method, and where requests have tokens of their own, the prefix of the files with the
-- tokens, one file a thread, and "again" where each is used over and over, or "once" where it dies with its request.

local threads = {}

function setup(thread)
    thread:set("number", #threads)
    table.insert(threads, thread)
end

function init(args)
    ran_out = false
    wrk.method = args[1]
    if #args == 1 then return end
    local before = wrk.method .. " " .. wrk.path .. " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
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
            table.insert(requests, before .. token .. after)
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
