-- Takes or renews slots of a server's connections; answers the holders that have none.
-- KEYS: sorted set: holder -> the instant in ms at which its slot expires
-- ARGV: slots in all, ms until a slot expires, holders

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = now + ARGV[2]

redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now)
-- Written by a clock that was set back since: they must not outlive their holders by as much.
for _, holder in ipairs(redis.call("ZRANGEBYSCORE", KEYS[1], "(" .. expires, "+inf")) do
    redis.call("ZADD", KEYS[1], expires, holder)
end
local without = {}
for j = 3, #ARGV do
    if redis.call("ZSCORE", KEYS[1], ARGV[j]) or redis.call("ZCARD", KEYS[1]) < tonumber(ARGV[1]) then
        redis.call("ZADD", KEYS[1], expires, ARGV[j])
    else
        without[#without + 1] = ARGV[j]
    end
end
redis.call("PEXPIRE", KEYS[1], 2 * tonumber(ARGV[2]))
return without
