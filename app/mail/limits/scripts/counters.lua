-- Put before the other scripts: buckets of counters, one hash for a server and one for each domain with a rule.
--
-- Instants are in us. A sliding window of length W is cut into slots of W/100. Tokens are counted in the slot of
-- the instant until which they may be used, and count until that whole slot is older than W: so no window of
-- length W, wherever it begins, has more than the limit used in it. The day is counted by quarters of an hour, in
-- which every time zone's midnight falls.
--
-- Fields of a bucket: "1:7" tokens in slot 7 of window 1 (second, 2 minute, 3 hour, 4 day); for each window its
-- total "t1" and the oldest slot in it "l1"; "q" the quarter when it was last used.
-- A server's has besides: "epoch" (run of Redis, and when it was counted), "ahead" and "last" of its clock, and what
-- it was counted from ("past", "pending", "noted", "counted").

local LENGTH = {1000000, 60000000, 3600000000}
local SLOT = {10000, 600000, 36000000}
-- Slots that can hold anything: a hundred, the present one, and the next, in which tokens of now are counted.
local SPAN = 102
local MINUTE = 60000000
local QUARTER = 900000000
-- Longer than any day: 26 hours, in quarters and in ms.
local KEPT_QUARTERS = 104
local KEEP = 93600000
-- What the database knew when a server was counted holds for its own bucket for 10 s.
local FRESH = 10000000

local function numbers(line)
    local found = {}
    for word in string.gmatch(line, "%S+") do
        found[#found + 1] = tonumber(word)
    end
    return found
end

local function wall_clock(given)
    if given ~= "" then
        return tonumber(given)
    end
    local time = redis.call("TIME")
    return time[1] * 1000000 + time[2]
end

-- A Redis that was started anew may have lost the last counts, or read old ones: another run is another epoch.
local function run_id()
    local info = redis.pcall("INFO", "server")
    return type(info) == "string" and string.match(info, "run_id:(%x+)") or "unknown"
end

-- The server's clock: `wall` is Redis's, `now` never goes back. Nothing when its tokens are not counted yet.
local function open_server(key, given)
    local had = redis.call("HMGET", key, "epoch", "ahead", "last")
    if not had[1] or string.match(had[1], "^%w+") ~= run_id() then
        return nil
    end
    local server = {key = key, epoch = had[1], ahead = tonumber(had[2]), wall = wall_clock(given)}
    server.now = server.wall + server.ahead
    local last = tonumber(had[3])
    if server.now < last then
        -- Redis's clock was set back: the windows go on from where they were.
        server.ahead = server.ahead + last - server.now
        server.now = last
    end
    return server
end

-- Fills a bucket that does not exist with what the database knew of when the server was counted.
local function fill(server, bucket)
    local known = redis.call("HMGET", server.key, "past", "pending", "noted", "counted")
    local pending, noted, counted = tonumber(known[2]), tonumber(known[3]), tonumber(known[4])
    local fields = {}
    local function add(window, slot, count)
        if count > 0 and slot >= bucket.low[window] then
            local field = window .. ":" .. slot
            fields[field] = (fields[field] or 0) + count
            bucket.total[window] = bucket.total[window] + count
        end
    end
    local past = numbers(known[1])
    for j = 1, #past, 2 do
        -- Nobody knows when within its minute a mail was tried: at its end, or by now.
        local finish = (past[j] + 1) * MINUTE
        if finish > bucket.since then
            for i = 2, 3 do
                add(i, math.floor(math.min(finish, counted) / SLOT[i]), past[j + 1])
            end
            add(4, math.floor(past[j] * MINUTE / QUARTER), past[j + 1])
        end
    end
    if counted > bucket.since then
        for i = 2, 3 do
            add(i, math.floor(counted / SLOT[i]) + 1, pending)
        end
        add(4, math.floor(counted / QUARTER), pending)
        -- The second in which the counts were missed is full.
        add(1, math.floor(noted / SLOT[1]) + 1, math.max(0, bucket.limits[1]))
    end
    for field, count in pairs(fields) do
        redis.call("HSET", bucket.key, field, count)
    end
end

-- Drops the slots that are older than their window.
local function slide(bucket, now)
    local fields, window = {}, {}
    for i = 1, 3 do
        local low = math.floor((now - LENGTH[i]) / SLOT[i])
        if bucket.total[i] > 0 then
            for slot = bucket.low[i], math.min(low - 1, bucket.low[i] + SPAN) do
                fields[#fields + 1] = i .. ":" .. slot
                window[#fields] = i
            end
        end
        bucket.low[i] = math.max(low, bucket.low[i])
    end
    if #fields == 0 then
        return
    end
    local counts = redis.call("HMGET", bucket.key, unpack(fields))
    for j = 1, #fields do
        if counts[j] then
            bucket.total[window[j]] = bucket.total[window[j]] - counts[j]
            bucket.count[fields[j]] = 0
        end
    end
end

-- Counts the day again when another one has begun, by the calendar, by another time zone or by a clock set back.
local function turn_day(bucket, start, wall)
    local first, present = math.floor(start / QUARTER), math.floor(wall / QUARTER)
    if bucket.low[4] == first and bucket.quarter <= present then
        bucket.quarter = present
        return
    end
    local all, total, later = redis.call("HGETALL", bucket.key), 0, 0
    for j = 1, #all, 2 do
        local quarter = tonumber(string.match(all[j], "^4:(%d+)$"))
        if quarter and quarter > present then
            -- Counted by a clock that was wrong: it was before now.
            later = later + all[j + 1]
            bucket.count[all[j]] = 0
        elseif quarter and quarter < present - KEPT_QUARTERS then
            bucket.count[all[j]] = 0
        elseif quarter and quarter >= first then
            total = total + all[j + 1]
        end
    end
    if later > 0 then
        local field = "4:" .. present
        bucket.count[field] = later + (redis.call("HGET", bucket.key, field) or 0)
    end
    bucket.total[4], bucket.low[4], bucket.quarter = total + later, first, present
end

-- A bucket as it is now; `count` has the fields that differ from what is stored. `limits`: by window, -1 for none;
-- tries before `since` do not count. Nothing for a server's own that was not made soon after it was counted: while
-- only its domains had limits, its mails went out uncounted.
local function open_bucket(server, key, limits, since, start)
    local bucket = {key = key, limits = limits, since = since, total = {}, low = {}, count = {}}
    local had = redis.call("HMGET", key, "t1", "l1", "t2", "l2", "t3", "l3", "t4", "l4", "q", "counted")
    if had[1] and tonumber(had[2]) > math.floor((server.now - LENGTH[1]) / SLOT[1]) then
        -- A domain's, by a clock of the server that was lost: what its slots mean now, nobody knows.
        redis.call("DEL", key)
        had[1] = false
    end
    if had[1] then
        for i = 1, 4 do
            bucket.total[i], bucket.low[i] = tonumber(had[2 * i - 1]), tonumber(had[2 * i])
        end
        bucket.quarter = tonumber(had[9])
        slide(bucket, server.now)
        turn_day(bucket, start, server.wall)
        return bucket
    end
    if had[10] and server.wall - had[10] > FRESH then
        redis.call("DEL", key)
        return nil
    end
    bucket.quarter = math.floor(server.wall / QUARTER)
    for i = 1, 3 do
        bucket.total[i], bucket.low[i] = 0, math.floor((server.now - LENGTH[i]) / SLOT[i])
    end
    -- Filled from farther back than today: another time zone's today may begin earlier.
    bucket.total[4], bucket.low[4] = 0, bucket.quarter - KEPT_QUARTERS
    fill(server, bucket)
    turn_day(bucket, start, server.wall)
    return bucket
end

-- The slots in which tokens are counted that were reserved at `at` (by the calendar: `day_at`), for use within `use`.
local function slots_of(at, use, day_at)
    local slots = {}
    for i = 1, 3 do
        slots[i] = math.floor((at + math.min(use, SLOT[i])) / SLOT[i])
    end
    slots[4] = math.floor(day_at / QUARTER)
    return slots
end

-- Adds to the slots (or takes away: no more than there is, and nothing from slots that do not count any more).
local function change(bucket, slots, tokens)
    local fields = {}
    for i = 1, 4 do
        fields[i] = i .. ":" .. slots[i]
    end
    local stored = redis.call("HMGET", bucket.key, unpack(fields))
    for i = 1, 4 do
        local had = bucket.count[fields[i]] or tonumber(stored[i] or 0)
        local more = math.max(tokens, -had)
        if slots[i] >= bucket.low[i] then
            bucket.total[i] = bucket.total[i] + more
            bucket.count[fields[i]] = had + more
        end
    end
end

-- Writes what was changed, once. `server`: its clock is kept in its own bucket.
local function save(bucket, server)
    local set, old = {"q", bucket.quarter}, {}
    for i = 1, 4 do
        set[2 * i + 1], set[2 * i + 2] = "t" .. i, bucket.total[i]
        set[2 * i + 9], set[2 * i + 10] = "l" .. i, bucket.low[i]
    end
    for field, count in pairs(bucket.count) do
        if count > 0 then
            set[#set + 1] = field
            set[#set + 1] = count
        else
            old[#old + 1] = field
        end
    end
    if #old > 0 then
        redis.call("HDEL", bucket.key, unpack(old))
    end
    if bucket.key == server.key then
        set[#set + 1], set[#set + 2] = "ahead", server.ahead
        set[#set + 1], set[#set + 2] = "last", server.now
    else
        redis.call("HSET", server.key, "ahead", server.ahead, "last", server.now)
        redis.call("PEXPIRE", server.key, KEEP)
    end
    redis.call("HSET", bucket.key, unpack(set))
    redis.call("PEXPIRE", bucket.key, KEEP)
end

-- When so many tokens of a window of a saved bucket will be free, by Redis's own clock.
local function free_at(server, bucket, window, tokens, finish)
    local over = bucket.total[window] + tokens - bucket.limits[window]
    if over <= 0 then
        return server.wall
    end
    if window == 4 then
        return finish
    end
    local fields, low = {}, bucket.low[window]
    for slot = low, low + SPAN do
        fields[#fields + 1] = window .. ":" .. slot
    end
    local counts = redis.call("HMGET", bucket.key, unpack(fields))
    for j = 1, #fields do
        over = over - (counts[j] or 0)
        if over <= 0 then
            return (low + j) * SLOT[window] + LENGTH[window] - server.ahead
        end
    end
    return server.wall + LENGTH[window]
end

-- Start and end of the day that it is, among days given by their starts.
local function day_of(starts, wall)
    for j = 1, #starts - 1 do
        if starts[j] <= wall and wall < starts[j + 1] then
            return starts[j], starts[j + 1]
        end
    end
end
