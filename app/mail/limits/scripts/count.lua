-- Begins to count a server's tokens from what the database knows; answers 1, or 0 when somebody else does or did.
-- KEYS: the server's bucket, the lock of whoever counts, the leases noted
-- ARGV: now in us ("": Redis's clock), token of the lock, a new word for the epoch, what was tried as
--       "minute attempts minute attempts ..." (minutes since 1970), pending mails of leases that are still open,
--       when the leases were noted in us

local server = open_server(KEYS[1], ARGV[1])
if server or redis.call("GET", KEYS[2]) ~= ARGV[2] then
    return 0
end
local wall = wall_clock(ARGV[1])
redis.call("DEL", KEYS[1], KEYS[2], KEYS[3])
redis.call(
    "HSET", KEYS[1], "epoch", run_id() .. ":" .. ARGV[3], "clock", struct.pack(CLOCK, 0, wall), "counted", wall,
    "past", ARGV[4], "pending", ARGV[5], "noted", ARGV[6]
)
redis.call("PEXPIRE", KEYS[1], KEEP)
return 1
