-- Moves a message from a consumer's hands to the dead letters; answers 1, or 0 when it holds it no more.
-- KEYS: acks of the consumer, messages of the queue, dead letters, their messages, counters
-- ARGV: id, data ("": as it is), counter that grows by one ("": none)

if redis.call("SISMEMBER", KEYS[1], ARGV[1]) == 0 then
    return 0
end
local data = ARGV[2]
if data == "" then
    data = redis.call("HGET", KEYS[2], ARGV[1])
end
-- Written before it is removed: a Redis that is full refuses the first write, and nothing is lost.
if data then
    local time = redis.call("TIME")
    redis.call("HSET", KEYS[4], ARGV[1], data)
    redis.call("ZADD", KEYS[3], string.format("%.0f", time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
end
redis.call("SREM", KEYS[1], ARGV[1])
redis.call("HDEL", KEYS[2], ARGV[1])
if ARGV[3] ~= "" then
    redis.call("HINCRBY", KEYS[5], ARGV[3], 1)
end
return 1
