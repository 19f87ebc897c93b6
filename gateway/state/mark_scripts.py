"""The Lua scripts of all that is remembered beside the logs: sessions' marks, heartbeats, healings. As in `scripts`."""

from typing import Final

from gateway.state.scripts import make_script

# KEYS the mark. ARGV: ms to live, channel, session.
MARK: Final = make_script(
    "mark",
    """
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {'ok'}
""",
)

# KEYS the standing stream. ARGV: candidate, the one to replace, live ms, channel, session, follower. Answers: the standing.
JOIN: Final = make_script(
    "join",
    """
local stream = redis.call('HGET', KEYS[1], 'stream')
if not stream or stream == ARGV[2] then
  redis.call('HSET', KEYS[1], 'stream', ARGV[1], 'seq', 0, 'epoch', 0)
end
redis.call('HINCRBY', KEYS[1], 'turn', 1)
redis.call('HSET', KEYS[1], 'follower', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return redis.call('HMGET', KEYS[1], 'stream', 'turn', 'seq', 'epoch', 'follower')
""",
)

# KEYS the standing stream. ARGV: stream, turn, seq, epoch, follower, live ms, channel, session. That the client has left is
# news to its pump.
DELIVER: Final = make_script(
    "deliver",
    """
local got = redis.call('HMGET', KEYS[1], 'stream', 'turn')
if got[1] ~= ARGV[1] or got[2] ~= ARGV[2] then return {'fenced'} end
redis.call('HSET', KEYS[1], 'seq', ARGV[3], 'epoch', ARGV[4], 'follower', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if ARGV[5] == '' then redis.call('PUBLISH', ARGV[7], ARGV[8]) end
return {'ok'}
""",
)

# KEYS the standing stream, the mark of a session that was deleted. ARGV: live ms. Answers: 1 where it was, then the standing.
KEEP_STANDING: Final = make_script(
    "keep_standing",
    """
local answer = {redis.call('EXISTS', KEYS[2])}
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then return answer end
for i, value in ipairs(redis.call('HMGET', KEYS[1], 'stream', 'turn', 'seq', 'epoch', 'follower')) do
  answer[i + 1] = value
end
return answer
""",
)

# KEYS the standing stream. ARGV: stream, turn (empty: any), channel, session. The registry is left, unless another stream
# stands there by now, or another turn was taken.
LEAVE: Final = make_script(
    "leave",
    """
local got = redis.call('HMGET', KEYS[1], 'stream', 'turn')
if got[1] ~= ARGV[1] or (ARGV[2] ~= '' and got[2] ~= ARGV[2]) then return {'fenced'} end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return {'ok'}
""",
)

# KEYS the heartbeat. ARGV: TTL in ms. PEXPIRE first: a Redis that is out of memory refuses SET, and a full Redis must not
# make every worker look dead.
BEAT: Final = make_script(
    "beat",
    """
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 0 then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
return {'ok'}
""",
)

# KEYS heartbeats. Answers: the server's run id, then 1 or 0 for each. The id comes from the server that looked.
LOOK: Final = make_script(
    "look",
    """
local server = redis.pcall('INFO', 'server')
local answer = {type(server) == 'string' and string.match(server, 'run_id:(%w+)') or ''}
for i, key in ipairs(KEYS) do answer[i + 1] = redis.call('EXISTS', key) end
return answer
""",
    writes=False,
)

# KEYS healed, healing. ARGV: what failed, claim, ms to claim, ms to live. One worker of the fleet gets `mine`.
HEAL_BEGIN: Final = make_script(
    "heal_begin",
    """
local healed = redis.call('GET', KEYS[1])
if healed and healed ~= ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {'known', healed}
end
if redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then return {'mine'} end
return {'busy'}
""",
)

# KEYS healed, healing. ARGV: claim, healed (empty: in vain), ms to live.
HEAL_END: Final = make_script(
    "heal_end",
    """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {'late'} end
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
redis.call('DEL', KEYS[2])
return {'ok'}
""",
)
