"""The Lua scripts of a log: every step that must be atomic, one script each, its keys in `KEYS`.

The fields of a stream's hash are one letter each, because there are as many hashes as streams:

    e epoch      o owner           s state (State's words)   c the backend's last event id, sealed
    h head's seq g head's epoch    f floor's seq             k floor's epoch (the event before the oldest that is kept)
    b bytes kept x facts, sealed   q the request, sealed

In each script the first write is one that Redis refuses when it is out of memory; what follows a first write that was
accepted is accepted too. So each is all or nothing, also then. Answers are lists that begin with a word.
"""

import hashlib
from typing import Final

import msgspec

ENTRY_BYTES: Final = 64
"""What an entry is counted as, beside its payload: about what Redis needs for it."""


class Script(msgspec.Struct, frozen=True):
    """A script, and the digest by which Redis knows it once it has seen it. `writes`: a read-only Redis refuses it."""

    name: str
    text: str
    sha: str
    writes: bool


def make_script(name: str, text: str, *, writes: bool = True) -> Script:
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), writes)


# Adds the events from ARGV[at] on to a stream whose fields are known. `held` is what was asked of the hash, or made.
_ADD: Final = """
local function trim(log, held, max_events, max_bytes)
  if held.head - held.floor <= max_events and held.bytes <= max_bytes then return end
  -- A sixteenth more than needed, so that not every append from now on has to trim.
  local low_events, low_bytes = max_events - math.floor(max_events / 16), max_bytes - math.floor(max_bytes / 16)
  local enough = false
  while not enough do
    local oldest = redis.call('XRANGE', log, (held.floor + 1) .. '-0', '+', 'COUNT', 64)
    for _, entry in ipairs(oldest) do
      local kept = held.head - held.floor
      if kept <= 1 or (kept <= low_events and held.bytes <= low_bytes) then enough = true break end
      held.floor, held.floor_epoch = held.floor + 1, string.match(entry[1], '-(%d+)$')
      held.bytes = held.bytes - #entry[2][2] - ENTRY
    end
    if #oldest == 0 then enough = true end
  end
  redis.call('XTRIM', log, 'MINID', (held.floor + 1) .. '-0')
end

local function add(log, facts, held, epoch, first, at, cursor, final, live_ms, finished_ms, max_events, max_bytes)
  local seq, news = first - 1, false
  for i = at, #ARGV do
    seq = seq + 1
    if seq > held.head then
      redis.call('XADD', log, seq .. '-' .. epoch, 'p', ARGV[i])
      held.bytes = held.bytes + #ARGV[i] + ENTRY
      held.head, held.head_epoch, news = seq, epoch, true
    end
  end
  local fields = {}
  local function set(name, value) fields[#fields + 1] = name fields[#fields + 1] = value end
  -- The cursor of a repetition that comes late, behind later events, is older than the one that is kept.
  if cursor ~= '' and seq == held.head then set('c', cursor) end
  if news then
    trim(log, held, max_events, max_bytes)
    set('h', held.head) set('g', held.head_epoch) set('b', held.bytes) set('f', held.floor) set('k', held.floor_epoch)
  end
  if final and held.state == 'open' then set('s', 'finished') end
  if #fields > 0 then redis.call('HSET', facts, unpack(fields)) end
  if final then redis.call('HDEL', facts, 'q') end
  local ttl = (final or held.state ~= 'open') and finished_ms or live_ms
  redis.call('PEXPIRE', log, ttl)
  redis.call('PEXPIRE', facts, ttl)
  return news or final
end

local function hold(facts)
  local got = redis.call('HMGET', facts, 'e', 'o', 's', 'h', 'g', 'f', 'k', 'b')
  if not got[1] then return nil end
  return {epoch = got[1], owner = got[2], state = got[3], head = tonumber(got[4]), head_epoch = got[5],
          floor = tonumber(got[6]), floor_epoch = got[7], bytes = tonumber(got[8])}
end

local function is_lost(log, held)
  return not held or (held.head > held.floor and redis.call('EXISTS', log) == 0)
end
""".replace("ENTRY", str(ENTRY_BYTES))

# KEYS log, facts. ARGV: epoch, owner, cursor, final, live ms, finished ms, max events, max bytes, facts, request, channel,
# stream, then events. Repeated by the same owner it changes nothing.
CREATE: Final = make_script(
    "create",
    _ADD
    + """
local held = hold(KEYS[2])
if held then
  if held.epoch ~= ARGV[1] or held.owner ~= ARGV[2] then return {'fenced', held.head} end
  return {'ok', held.head}
end
redis.call('HSET', KEYS[2], 'e', ARGV[1], 'o', ARGV[2], 's', 'open', 'h', 0, 'g', 0, 'f', 0, 'k', 0, 'b', 0, 'x', ARGV[9])
if ARGV[10] ~= '' then redis.call('HSET', KEYS[2], 'q', ARGV[10]) end
held = {state = 'open', head = 0, head_epoch = 0, floor = 0, floor_epoch = 0, bytes = 0}
add(KEYS[1], KEYS[2], held, ARGV[1], 1, 13, ARGV[3], ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]),
    tonumber(ARGV[7]), tonumber(ARGV[8]))
redis.call('PUBLISH', ARGV[11], ARGV[12])
return {'ok', held.head}
""",
)

# KEYS log, facts. ARGV: epoch, owner, cursor, final, live ms, finished ms, max events, max bytes, first seq, across a hole,
# channel, stream, then events.
APPEND: Final = make_script(
    "append",
    _ADD
    + """
local held = hold(KEYS[2])
if is_lost(KEYS[1], held) then return {'lost', 0} end
if held.epoch ~= ARGV[1] or held.owner ~= ARGV[2] then return {'fenced', held.head} end
local first, final = tonumber(ARGV[9]), ARGV[4] == '1'
local last = first + #ARGV - 13
if held.state ~= 'open' and (last > held.head or #ARGV == 12) then return {'fenced', held.head} end
if first > held.head + 1 then
  if ARGV[10] ~= '1' then return {'hole', held.head} end
  redis.call('HSET', KEYS[2], 'f', first - 1, 'k', ARGV[1])
  redis.call('DEL', KEYS[1])
  held.head, held.head_epoch, held.floor, held.floor_epoch, held.bytes = first - 1, ARGV[1], first - 1, ARGV[1], 0
  redis.call('HSET', KEYS[2], 'h', held.head, 'g', held.head_epoch, 'b', 0)
end
local news = add(KEYS[1], KEYS[2], held, ARGV[1], first, 13, ARGV[3], final, tonumber(ARGV[5]), tonumber(ARGV[6]),
                 tonumber(ARGV[7]), tonumber(ARGV[8]))
if news then redis.call('PUBLISH', ARGV[11], ARGV[12]) end
return {'ok', held.head}
""",
)

# KEYS log, facts. ARGV: after seq, after epoch, limit, limit bytes. Answers: ok, is continuous, epoch, owner, state, head's
# seq and epoch, floor's seq and epoch, cursor, facts, then id and payload of each entry.
READ: Final = make_script(
    "read",
    """
local got = redis.call('HMGET', KEYS[2], 'e', 'o', 's', 'h', 'g', 'f', 'k', 'c', 'x', 'b')
if not got[1] then return {'lost'} end
local head, floor, seq = tonumber(got[4]), tonumber(got[6]), tonumber(ARGV[1])
if head > floor and redis.call('EXISTS', KEYS[1]) == 0 then return {'lost'} end
local known = (seq == floor and ARGV[2] == got[7])
if not known and seq > floor and seq <= head then
  local id = ARGV[1] .. '-' .. ARGV[2]
  known = #redis.call('XRANGE', KEYS[1], id, id) == 1
end
local answer = {'ok', known and 1 or 0, got[1], got[2], got[3], got[4], got[5], got[6], got[7], got[8] or '', got[9]}
local room, room_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local mean_bytes = math.max(tonumber(got[10]) / math.max(head - floor, 1), 1)
while known and seq < head and room > 0 and room_bytes > 0 do
  local some = redis.call('XRANGE', KEYS[1], (seq + 1) .. '-0', '+', 'COUNT', math.min(room, math.ceil(room_bytes / mean_bytes)))
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    if room_bytes <= 0 then break end
    answer[#answer + 1] = entry[1]
    answer[#answer + 1] = entry[2][2]
    seq = tonumber(string.match(entry[1], '^%d+'))
    room, room_bytes = room - 1, room_bytes - #entry[2][2]
  end
end
return answer
""",
    writes=False,
)

# KEYS log, facts. ARGV: expected epoch, new epoch, new owner, live ms. Answers: ok, head's seq and epoch, cursor, facts.
# The new epoch is the claimant's own: repeated with the same one it answers the same.
TAKE_OVER: Final = make_script(
    "take_over",
    """
local got = redis.call('HMGET', KEYS[2], 'e', 'o', 's', 'h', 'g', 'f', 'c', 'x')
if not got[1] then return {'lost'} end
if tonumber(got[4]) > tonumber(got[6]) and redis.call('EXISTS', KEYS[1]) == 0 then return {'lost'} end
if got[3] ~= 'open' then return {'ended'} end
if got[1] ~= ARGV[2] or got[2] ~= ARGV[3] then
  if got[1] ~= ARGV[1] then return {'fenced'} end
  redis.call('HSET', KEYS[2], 'e', ARGV[2], 'o', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return {'ok', got[4], got[5], got[7] or '', got[8]}
""",
)

# KEYS log, facts. ARGV: epoch, owner, new owner, new state, ms to live, channel, stream. Gives up a hold: by release or end.
YIELD: Final = make_script(
    "yield",
    """
local got = redis.call('HMGET', KEYS[2], 'e', 'o', 's')
if not got[1] or got[1] ~= ARGV[1] or got[2] ~= ARGV[2] or got[3] ~= 'open' then return {'fenced'} end
redis.call('HSET', KEYS[2], 'o', ARGV[3], 's', ARGV[4])
if ARGV[4] ~= 'open' then redis.call('HDEL', KEYS[2], 'q') end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PUBLISH', ARGV[6], ARGV[7])
return {'ok'}
""",
)

# KEYS log, facts. ARGV: epoch, owner. Gives the request away, once, and with it the backend's last event id: who comes next
# can neither run the call again nor resume a run that it doesn't know.
TAKE_REQUEST: Final = make_script(
    "take_request",
    """
local got = redis.call('HMGET', KEYS[2], 'e', 'o', 's', 'q')
if not got[1] or got[1] ~= ARGV[1] or got[2] ~= ARGV[2] or got[3] ~= 'open' then return {'fenced'} end
if not got[4] then return {'taken'} end
redis.call('HDEL', KEYS[2], 'q', 'c')
return {'ok', got[4]}
""",
)

# KEYS log, facts. ARGV: live ms. Puts off the end of a stream that is still open.
KEEP: Final = make_script(
    "keep",
    """
local state = redis.call('HGET', KEYS[2], 's')
if not state then return {'lost'} end
if state == 'open' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
end
return {'ok'}
""",
)
