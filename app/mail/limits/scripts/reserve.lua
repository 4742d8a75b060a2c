-- Gives tokens back, then reserves tokens in one or more buckets at once: as many as every window leaves.
-- KEYS: the server's bucket, that of a domain there (if any)
-- ARGV: now in us ("": Redis's clock), the starts of four days in us (packed), tokens wanted (-1: only look), us
--       within which they are used, what is given back (for each block "tokens late at day_at epoch"; late ones are
--       not free: they count from now on), then for each bucket asked, packed: number of its key, since when tries
--       count, limits of second, minute, hour, day (-1: none)
-- Answers {1, tokens, at, day_at, end of the day, epoch}, {0, free at, bucket, window}, {2, used of each window,
--       blocked 0 or 1, free at, window} for a look at one bucket, {-1} when the server's tokens are not counted
--       yet, {-2, now} when none of the days is today. All instants in us by Redis's clock, but `at`.

local server = open_server(KEYS[1], ARGV[1])
if not server then
    return {-1}
end
local start, finish = day_of(ARGV[2], server.wall)
if not start then
    return {-2, server.wall}
end
local wanted, use = tonumber(ARGV[3]), tonumber(ARGV[4])

local buckets = {}
for j = 6, #ARGV do
    buckets[#buckets + 1] = asked_bucket(server, ARGV[j], start)
    if #buckets < j - 5 then
        return {-1}
    end
end

for tokens, late, at, day_at, epoch in string.gmatch(ARGV[5], "(%d+) (%d+) (%d+) (%d+) (%S+)") do
    if epoch == server.epoch then
        for _, bucket in ipairs(buckets) do
            change(bucket, slots_of(tonumber(at), use, tonumber(day_at)), -tokens - late)
            change(bucket, slots_of(server.now, 0, server.wall), tonumber(late))
        end
    end
end

local room = math.huge
for _, bucket in ipairs(buckets) do
    for i = 1, 4 do
        if bucket.limits[i] >= 0 then
            room = math.min(room, bucket.limits[i] - bucket.total[i])
        end
    end
end
local granted = math.max(0, math.min(wanted, room))
for _, bucket in ipairs(buckets) do
    if granted > 0 then
        change(bucket, slots_of(server.now, use, server.wall), granted)
    end
    save(bucket, server)
end
if granted > 0 or wanted == 0 then
    return {1, granted, server.now, server.wall, finish, server.epoch}
end

-- A share of a limit, because whoever is woken for single tokens of a large one is mostly refused.
local latest, of_bucket, of_window = 0, 0, 0
for number, bucket in ipairs(buckets) do
    for i = 1, 4 do
        local share = math.max(1, math.floor(bucket.limits[i] / 50))
        if bucket.limits[i] >= 0 then
            local free = free_at(server, bucket, i, wanted > 0 and math.min(wanted, share) or share, finish)
            if free > latest then
                latest, of_bucket, of_window = free, number, i
            end
        end
    end
end
if wanted > 0 then
    return {0, latest, of_bucket, of_window}
end
local used = buckets[1].total
return {2, used[1], used[2], used[3], used[4], room < 1 and 1 or 0, latest, of_window}
