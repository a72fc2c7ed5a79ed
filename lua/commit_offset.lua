-- Counts what came of one record of a log in which records are numbered, exactly once however often
-- it was compared: who moves its number into the finished ones counts it. Those are all below a low
-- mark, and a set of single ones above it. Keeps book of how many were read, and of each life of a
-- gateway how many and between which numbers. count_finding.lua is the rest of it.
--
-- KEYS[1] the hash of low marks
-- KEYS[2] to KEYS[7] as count_finding.lua says
-- KEYS[8] the sorted set of finished numbers above the low mark
-- KEYS[9] the hash of how often records were handed out
-- ARGV[1] the log: the field of its low mark
-- ARGV[2] the record's number
-- ARGV[3] the first number behind the record before it: those between do not exist
-- ARGV[4] life of low mark and set in seconds, of a log that begins with 0; 0 for ever
-- ARGV[5] the gateway that wrote it, start and sequence number in ARGV[6] and ARGV[7]; or empty
-- ARGV    as count_finding.lua says
-- Returns 1 where it was counted, 0 where somebody else did
-- Called by store::Comparisons::commit

local lows, done, handed = KEYS[1], KEYS[8], KEYS[9]
local log, number, from, life_s = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local gateway, epoch, sequence = ARGV[5], ARGV[6], ARGV[7]
local at = 7

redis.call('HDEL', handed, log .. ':' .. ARGV[2])
local low = tonumber(redis.call('HGET', lows, log) or (life_s > 0 and 0) or from)
if number < low or #redis.call('ZRANGEBYSCORE', done, number, number) > 0 then
  return 0
end
if from <= low then
  low = number + 1
  local first = redis.call('ZRANGE', done, 0, 0)[1]
  while first do
    local above, behind = string.match(first, '^(%d+):(%d+)$')
    if tonumber(behind) > low then
      break
    end
    redis.call('ZREM', done, first)
    low = math.max(low, tonumber(above) + 1)
    first = redis.call('ZRANGE', done, 0, 0)[1]
  end
else
  redis.call('ZADD', done, number, ARGV[2] .. ':' .. ARGV[3])
end
redis.call('HSET', lows, log, string.format('%.0f', low))
if life_s > 0 then
  redis.call('EXPIRE', lows, life_s)
  redis.call('EXPIRE', done, life_s)
end

redis.call('HINCRBY', KEYS[2], 'read', 1)
if gateway ~= '' then
  local life = 'gateway.' .. gateway .. '.' .. epoch
  local opened = redis.call('HMGET', KEYS[2], 'opened_ms', 'opened_empty')
  redis.call('HINCRBY', KEYS[2], life .. '.seen', 1)
  -- Of a life that began after the log was opened, or when that was empty, everything is expected;
  -- of another what came after the first that was read.
  local lowest = tonumber(redis.call('HGET', KEYS[2], life .. '.low') or sequence)
  if opened[2] == '1' or (opened[1] and tonumber(epoch) >= tonumber(opened[1])) then
    lowest = 1
  end
  lowest = math.min(lowest, tonumber(sequence))
  local highest = tonumber(redis.call('HGET', KEYS[2], life .. '.high') or sequence)
  highest = math.max(highest, tonumber(sequence))
  redis.call('HSET', KEYS[2], life .. '.low', string.format('%.0f', lowest),
    life .. '.high', string.format('%.0f', highest))
end

