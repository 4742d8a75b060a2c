-- Watches the heartbeats; answers {consumer, score, consumer, score, ...} of those silent for too long.
-- KEYS: heartbeats, watch (hash: consumer -> "score silent_ms", and "at" -> ms of the last look)
-- ARGV: limit in ms, consumers to look at

-- A score is the clock of whoever wrote it, so only its change means anything; time is Redis's own.
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit = tonumber(ARGV[1])

local before = {}
local stored = redis.call("HGETALL", KEYS[2])
for i = 1, #stored, 2 do
    before[stored[i]] = stored[i + 1]
end

-- While Redis or every worker was away nobody could beat and nobody looked: such a gap counts half
-- the limit at most, so the living have the other half to be heard again.
local gap = math.min(math.max(0, now - (tonumber(before.at) or now)), limit / 2)

local seen = {"at", string.format("%.0f", now)}
local silent = {}
local beats = redis.call("ZRANGE", KEYS[1], 0, tonumber(ARGV[2]) - 1, "WITHSCORES")
for i = 1, #beats, 2 do
    local consumer, score = beats[i], beats[i + 1]
    local last, ms = string.match(before[consumer] or "", "^(%S+) (%d+)$")
    ms = last == score and ms + gap or 0
    seen[#seen + 1] = consumer
    seen[#seen + 1] = string.format("%s %.0f", score, ms)
    if ms >= limit then
        silent[#silent + 1] = consumer
        silent[#silent + 1] = score
    end
end

-- Written anew each time: whoever is gone from the heartbeats is gone from here.
redis.call("DEL", KEYS[2])
redis.call("HSET", KEYS[2], unpack(seen))
redis.call("PEXPIRE", KEYS[2], 3600000)
return silent
