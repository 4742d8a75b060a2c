-- Puts a dead consumer's messages back at the head of their queue, the oldest first.
-- Answers {moved, left in its hands, id, data, id, data, ...}: those pairs have killed too often and
-- are left for the caller to bury. Answers {-1} when the consumer was heard again.
-- KEYS: heartbeats, acks of the consumer, queue, its messages, counters
-- ARGV: consumer, score it was silent with, messages at most, deaths at most (0: not counted), counter of those moved

if redis.call("ZSCORE", KEYS[1], ARGV[1]) ~= ARGV[2] then
    return {-1}
end

local limit = tonumber(ARGV[4])
local back, killers = {}, {}
local moved = 0
local ids = redis.call("SRANDMEMBER", KEYS[2], ARGV[3])
for _, id in ipairs(ids) do
    local data = redis.call("HGET", KEYS[4], id)
    -- JSON allows spaces before a value and every decoder skips them, so a message carries the
    -- number of workers that died with it as that many spaces: nothing beside it to keep in step.
    local deaths = data and limit > 0 and string.match(data, "^( *){")
    if deaths and #deaths + 1 >= limit then
        killers[#killers + 1] = id
        killers[#killers + 1] = data
    else
        redis.call("SREM", KEYS[2], id)
        -- Without data it was purged: there is nothing to put back.
        if data then
            if deaths then
                redis.call("HSET", KEYS[4], id, " " .. data)
            end
            local made = string.match(string.sub(data, -48), '"message_timestamp": ?(%d+)}$')
            back[#back + 1] = {id, tonumber(made) or 0}
        end
    end
end

table.sort(back, function(a, b) return a[2] > b[2] end)
for _, one in ipairs(back) do
    redis.call("LPUSH", KEYS[3], one[1])
    moved = moved + 1
end
if moved > 0 then
    redis.call("HINCRBY", KEYS[5], ARGV[5], moved)
end
return {moved, redis.call("SCARD", KEYS[2]), unpack(killers)}
