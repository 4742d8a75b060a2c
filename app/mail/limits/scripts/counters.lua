-- Put before the other scripts: buckets of counters, one hash for a server and one for each domain with a rule.
--
-- Instants are in us. A sliding window of length W is cut into slots of W/200. Tokens are counted in the slot of
-- the instant until which they may be used, three slots after they were given, and count until that whole slot is
-- older than W: so no window of length W, wherever it begins, has more than the limit used in it. The day is counted
-- by quarters of an hour, in which every time zone's midnight falls.
--
-- Fields of a bucket: "1:7" tokens in slot 7 of window 1 (second, 2 minute, 3 hour, 4 day); "state": for each window
-- its total and the oldest slot in it, then the quarter when the bucket was last used.
-- A server's has besides: "epoch" (run of Redis, and when it was counted), "clock" (how far it is ahead of Redis's,
-- and its last instant), and what it was counted from ("past", "pending", "noted", "counted").

local LENGTH = {1000000, 60000000, 3600000000}
local SLOT = {5000, 300000, 18000000}
local USE = {15000, 900000, 54000000}
-- After so long at the latest tokens are free again.
local CYCLE = {1020000, 61200000, 3672000000}
-- Slots that can hold anything: two hundred, the present one, and three more, until the last in which tokens count.
local SPAN = 204
local MINUTE = 60000000
local QUARTER = 900000000
-- Longer than any day: 26 hours, in quarters and in ms.
local KEPT_QUARTERS = 104
local KEEP = 93600000
-- Nine numbers. Values of more than 64 bytes make Redis keep a hash as a table, in which a field is found at once.
local STATE = "<" .. string.rep("d", 9)
local CLOCK = "<dd"
-- What the database knew when a server was counted holds for its own bucket for 10 s.
local FRESH = 10000000

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
    local had = redis.call("HMGET", key, "epoch", "clock", "state", "counted")
    if not had[1] or string.match(had[1], "^%w+") ~= run_id() then
        return nil
    end
    local ahead, last = struct.unpack(CLOCK, had[2])
    local wall = wall_clock(given)
    -- Should Redis's clock have been set back, the windows go on from where they were.
    local now = math.max(wall + ahead, last)
    return {key = key, epoch = had[1], wall = wall, now = now, ahead = now - wall, state = had[3], counted = had[4]}
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
    for minute, attempts in string.gmatch(known[1], "(%d+) (%d+)") do
        -- Nobody knows when within its minute a mail was tried: at its end, or by now.
        local finish = (minute + 1) * MINUTE
        if finish > bucket.since then
            for i = 2, 3 do
                add(i, math.floor(math.min(finish, counted) / SLOT[i]), tonumber(attempts))
            end
            add(4, math.floor(minute * MINUTE / QUARTER), tonumber(attempts))
        end
    end
    if counted > bucket.since then
        for i = 2, 3 do
            add(i, math.floor((counted + USE[i]) / SLOT[i]), pending)
        end
        add(4, math.floor(counted / QUARTER), pending)
        -- The second in which the counts were missed is full.
        add(1, math.floor((noted + USE[1]) / SLOT[1]), math.max(0, bucket.limits[1]))
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

-- Counts the day again when another one has begun: by the calendar, by another time zone, by a clock set back. What
-- was counted for later than now counts too: of two clocks nobody knows which was right.
local function turn_day(bucket, start, wall)
    local first, present = math.floor(start / QUARTER), math.floor(wall / QUARTER)
    -- Used in another quarter than before: it lives for another 26 hours.
    bucket.keep, bucket.quarter = bucket.quarter ~= present, present
    if bucket.low[4] == first then
        return
    end
    local all, total, moved = redis.call("HGETALL", bucket.key), 0, 0
    for j = 1, #all, 2 do
        local quarter = tonumber(string.match(all[j], "^4:(%d+)$"))
        if quarter and math.abs(quarter - present) > KEPT_QUARTERS then
            -- By a clock that was wrong by more than a day: otherwise it would be a day's count again, in a year.
            moved = moved + (quarter > present and all[j + 1] or 0)
            bucket.count[all[j]] = 0
        elseif quarter and quarter >= first then
            total = total + all[j + 1]
        end
    end
    if moved > 0 then
        local field = "4:" .. present
        bucket.count[field] = moved + (redis.call("HGET", bucket.key, field) or 0)
    end
    bucket.total[4], bucket.low[4] = total + moved, first
end

-- A bucket as it is now; `count` has the fields that differ from what is stored. `limits`: by window, -1 for none;
-- tries before `since` do not count. Nothing for a server's own that was not made soon after it was counted: while
-- only its domains had limits, its mails went out uncounted.
local function open_bucket(server, key, since, limits, start)
    local own = key == server.key
    local bucket = {key = key, own = own, since = since, limits = limits, total = {}, low = {}, count = {}}
    local total, low = bucket.total, bucket.low
    local state = own and server.state or not own and redis.call("HGET", key, "state")
    if state then
        total[1], low[1], total[2], low[2], total[3], low[3], total[4], low[4], bucket.quarter =
            struct.unpack(STATE, state)
        if low[1] <= math.floor((server.now - LENGTH[1]) / SLOT[1]) then
            slide(bucket, server.now)
            turn_day(bucket, start, server.wall)
            return bucket
        end
        -- A domain's, by a clock of the server that was lost: what its slots mean now, nobody knows.
        redis.call("DEL", key)
    end
    if own and server.wall - server.counted > FRESH then
        redis.call("DEL", key)
        return nil
    end
    bucket.quarter = math.floor(server.wall / QUARTER)
    for i = 1, 3 do
        total[i], low[i] = 0, math.floor((server.now - LENGTH[i]) / SLOT[i])
    end
    -- Filled from farther back than today: another time zone's today may begin earlier.
    total[4], low[4] = 0, bucket.quarter - KEPT_QUARTERS
    fill(server, bucket)
    turn_day(bucket, start, server.wall)
    bucket.keep = true
    return bucket
end

-- The slots in which tokens are counted that were reserved at `at` (by the calendar: `day_at`), for use within `use`.
local function slots_of(at, use, day_at)
    local slots = {}
    for i = 1, 3 do
        slots[i] = math.floor((at + math.min(use, USE[i])) / SLOT[i])
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

-- Writes what was changed, once, and the server's clock.
local function save(bucket, server)
    local total, low, old = bucket.total, bucket.low, {}
    local state = struct.pack(
        STATE, total[1], low[1], total[2], low[2], total[3], low[3], total[4], low[4], bucket.quarter
    )
    local set = {"state", state}
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
    local clock = struct.pack(CLOCK, server.ahead, server.now)
    if bucket.own then
        set[#set + 1] = "clock"
        set[#set + 1] = clock
    else
        redis.call("HSET", server.key, "clock", clock)
    end
    redis.call("HSET", bucket.key, unpack(set))
    if bucket.keep then
        redis.call("PEXPIRE", bucket.key, KEEP)
        redis.call("PEXPIRE", server.key, KEEP)
    end
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

-- Start and end of the day that it is, among days given by their starts (four numbers, packed).
local function day_of(packed, wall)
    local starts = {struct.unpack("<dddd", packed)}
    for j = 1, 3 do
        if starts[j] <= wall and wall < starts[j + 1] then
            return starts[j], starts[j + 1]
        end
    end
end

-- The bucket that somebody asks for: number of its key, since when tries count, limits (six numbers, packed).
local function asked_bucket(server, packed, start)
    local key, since, second, minute, hour, day = struct.unpack("<dddddd", packed)
    return open_bucket(server, KEYS[key], since, {second, minute, hour, day}, start)
end
