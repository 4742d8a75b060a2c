-- When so many tokens of a domain will be free, behind those who were given an appointment before.
-- KEYS: the server's bucket, the domain's, who waits (sorted set: "turn tokens" -> instant by the windows' clock)
-- ARGV: now in us ("": Redis's clock), the starts of four days in us (packed), tokens, the bucket asked (packed, as
--       for reserve.lua), how far ahead appointments are made in us, a random number from 0 to 1
-- Answers {1, instant in us by Redis's clock}, {-1} and {-2, now} as reserve.lua does
-- The domain's bucket has besides: "waiting" tokens of all who wait, and the last "turn".

local server = open_server(KEYS[1], ARGV[1])
if not server then
    return {-1}
end
local start, finish = day_of(ARGV[2], server.wall)
if not start then
    return {-2, server.wall}
end
local tokens, ahead = tonumber(ARGV[3]), tonumber(ARGV[5])
local bucket = asked_bucket(server, ARGV[4], start)
save(bucket, server)

-- Who had a turn has taken its tokens, or will ask again.
local waiting = tonumber(redis.call("HGET", bucket.key, "waiting") or 0)
for _, member in ipairs(redis.call("ZRANGEBYSCORE", KEYS[3], "-inf", server.now)) do
    waiting = math.max(0, waiting - string.match(member, "%d+$"))
end
redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", server.now)
if redis.call("EXISTS", KEYS[3]) == 0 then
    waiting = 0
end

-- The moment when as many tokens are free in every window, whole windows of them following one another.
local function free_in_all(wanted)
    local latest = server.wall
    for i = 1, 4 do
        local limit = bucket.limits[i]
        if i == 4 and limit >= 0 and wanted > limit - bucket.total[4] then
            local days = math.ceil((wanted - math.max(0, limit - bucket.total[4])) / limit)
            latest = math.max(latest, finish + (days - 1) * 24 * 4 * QUARTER)
        elseif i < 4 and limit >= 0 then
            local rounds = math.floor((wanted - 1) / limit)
            local free = free_at(server, bucket, i, wanted - rounds * limit, finish)
            latest = math.max(latest, free + rounds * CYCLE[i])
        end
    end
    return latest
end

local first, at = free_in_all(tokens), free_in_all(waiting + tokens)
if at > first + ahead then
    -- No appointment: limits may be raised meanwhile. Who comes then is told anew.
    redis.call("HSET", bucket.key, "waiting", waiting)
    return {1, math.ceil(first + ahead * (1 + tonumber(ARGV[6])) / 2)}
end
local turn = redis.call("HINCRBY", bucket.key, "turn", 1)
redis.call("ZADD", KEYS[3], at + server.ahead, turn .. " " .. tokens)
redis.call("PEXPIRE", KEYS[3], KEEP)
redis.call("HSET", bucket.key, "waiting", waiting + tokens)
return {1, at}
