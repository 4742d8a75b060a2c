-- Enqueues a message again under a new id and lets go of it; answers 1, or 0 when the consumer holds it no more.
-- KEYS: acks of the consumer, messages of the queue, queue to enqueue to, its messages
-- ARGV: id, new id, data

if redis.call("SISMEMBER", KEYS[1], ARGV[1]) == 0 then
    return 0
end
-- Written before it is removed: a Redis that is full refuses the first write, and nothing is lost.
redis.call("HSET", KEYS[4], ARGV[2], ARGV[3])
redis.call("RPUSH", KEYS[3], ARGV[2])
redis.call("SREM", KEYS[1], ARGV[1])
redis.call("HDEL", KEYS[2], ARGV[1])
return 1
