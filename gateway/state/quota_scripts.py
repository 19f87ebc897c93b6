"""The Lua scripts of shared limits. The arithmetic is `policy.quotas`', its times in milliseconds of Redis's clock."""

from typing import Final

from gateway.state.scripts import make_script

# KEYS the bucket. ARGV: count, ms of the period, burst, ms of a lease, needed, wanted, ms to live. Answers: how many are
# granted; ms until as many as are needed are likely. Numbers are written with all their digits: Lua's own are cut at 14.
LEASE: Final = make_script(
    "lease",
    """
local per_ms, burst, lease_ms = tonumber(ARGV[1]) / tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local needed, wanted = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local slot = math.floor(now / lease_ms)
local got = redis.call('HMGET', KEYS[1], 'tokens', 'at', 'slot', 'leased', 'before')
local tokens, leased, before = burst, 0, 0
if got[1] then
  local at, last = tonumber(got[2]), tonumber(got[3])
  tokens, leased, before = tonumber(got[1]), tonumber(got[4]), tonumber(got[5])
  now, slot = math.max(now, at), math.max(slot, last)
  if slot > last then
    before = slot == last + 1 and leased or 0
    leased = 0
  end
  tokens = math.max(tokens, math.min(tokens + (now - at) * per_ms, burst - leased - before))
end
local granted, wait = 0, 0
if tokens >= needed then
  granted = math.min(wanted, math.floor(tokens))
else
  wait = (needed - tokens) / per_ms
  if burst - leased - before < needed then wait = math.max(wait, (slot + 1) * lease_ms - now) end
end
local function spell(number) return string.format('%.17g', number) end
redis.call('HSET', KEYS[1], 'tokens', spell(tokens - granted), 'at', spell(now), 'slot', spell(slot),
  'leased', spell(leased + granted), 'before', spell(before))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {granted, math.ceil(wait)}
""",
)

# KEYS the workers that hold limits. ARGV: this worker, ms until it counts as gone. Answers: how many there are.
COUNT: Final = make_script(
    "count",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.17g', now + tonumber(ARGV[2])), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.17g', now))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {redis.call('ZCARD', KEYS[1])}
""",
)

# KEYS the places: a hash, by worker `count until`. ARGV: worker, wanted, limit, ms that they are kept. Answers: how many
# places the worker has now, how many are free.
RESERVE: Final = make_script(
    "reserve",
    """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local wanted, limit, taken, gone = tonumber(ARGV[2]), tonumber(ARGV[3]), 0, {}
local got = redis.call('HGETALL', KEYS[1])
for i = 1, #got, 2 do
  local count, till = string.match(got[i + 1], '(%d+) (%d+)')
  if tonumber(till) <= now then gone[#gone + 1] = got[i]
  elseif got[i] ~= ARGV[1] then taken = taken + tonumber(count) end
end
local granted = math.max(0, math.min(wanted, limit - taken))
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
if granted > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f', granted, now + tonumber(ARGV[4])))
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return {granted, math.max(0, limit - taken - granted)}
""",
)
