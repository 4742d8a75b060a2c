-- Removes what says that a consumer lives, if it holds nothing any more; answers 1 or 0.
-- KEYS: heartbeats, consumers, then every set of acks it may have
-- ARGV: consumer, score it was silent with ("": whatever it is)

if ARGV[2] ~= "" and redis.call("ZSCORE", KEYS[1], ARGV[1]) ~= ARGV[2] then
    return 0
end
for i = 3, #KEYS do
    if redis.call("EXISTS", KEYS[i]) == 1 then
        return 0
    end
end
redis.call("ZREM", KEYS[1], ARGV[1])
redis.call("HDEL", KEYS[2], ARGV[1])
return 1
