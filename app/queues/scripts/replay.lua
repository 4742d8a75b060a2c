-- Enqueues a dead letter anew and removes it from the dead letters; answers 1, or 0 when it is not there.
-- KEYS: queue, its messages, dead letters, their messages
-- ARGV: id, data as it was read, data to enqueue

if redis.call("HGET", KEYS[4], ARGV[1]) ~= ARGV[2] then
    return 0
end
-- Written before it is removed: a Redis that is full refuses the first write, and nothing is lost.
redis.call("HSET", KEYS[2], ARGV[1], ARGV[3])
redis.call("RPUSH", KEYS[1], ARGV[1])
redis.call("ZREM", KEYS[3], ARGV[1])
redis.call("HDEL", KEYS[4], ARGV[1])
return 1
