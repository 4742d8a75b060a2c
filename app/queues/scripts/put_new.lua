-- Enqueue messages under ids that their maker has chosen, but none that Redis still knows: waiting or in hand.
-- KEYS: the queue's list, the queue's messages. ARGV: id, message, id, message …
-- Answers how many were enqueued.
local new = 0
for i = 1, #ARGV, 2 do
    if redis.call("hsetnx", KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
        redis.call("rpush", KEYS[1], ARGV[i])
        new = new + 1
    end
end
return new
