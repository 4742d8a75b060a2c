-- Moves a delayed message whose time has come to its queue; answers 1, or 0 when somebody else has it.
-- KEYS: acks of the consumer, delayed messages, queue, its messages
-- ARGV: id, data

if redis.call("SISMEMBER", KEYS[1], ARGV[1]) == 0 then
    return 0
end
-- Written before it is removed: a Redis that is full refuses the first write, and nothing is lost.
redis.call("HSET", KEYS[4], ARGV[1], ARGV[2])
redis.call("RPUSH", KEYS[3], ARGV[1])
redis.call("SREM", KEYS[1], ARGV[1])
redis.call("HDEL", KEYS[2], ARGV[1])
return 1
