-- Deletes dead letters that are too old; answers how many.
-- KEYS: dead letters, their messages
-- ARGV: ms they are kept, letters at most

local time = redis.call("TIME")
local oldest = time[1] * 1000 - tonumber(ARGV[1])
local ids = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", string.format("%.0f", oldest), "LIMIT", 0, ARGV[2])
if #ids > 0 then
    redis.call("ZREM", KEYS[1], unpack(ids))
    redis.call("HDEL", KEYS[2], unpack(ids))
end
return #ids
