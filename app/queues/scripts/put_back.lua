-- Puts messages a consumer holds back at the head of their queue, in the order given; answers how many.
-- KEYS: acks of the consumer, queue, its messages
-- ARGV: ids

local moved = 0
for i = #ARGV, 1, -1 do
    -- Only what is still in its hands: somebody else may have it by now.
    if redis.call("SREM", KEYS[1], ARGV[i]) == 1 and redis.call("HEXISTS", KEYS[3], ARGV[i]) == 1 then
        redis.call("LPUSH", KEYS[2], ARGV[i])
        moved = moved + 1
    end
end
return moved
