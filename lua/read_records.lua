-- Takes records that no consumer of the group has had, and keeps book of them in the same breath: how
-- many were read, and of each life of a gateway how many and between which numbers, so that holes
-- show what was trimmed unread.
--
-- KEYS[1] the stream of records
-- KEYS[2] the hash of results
-- ARGV[1] the group
-- ARGV[2] the consumer
-- ARGV[3] how many records at most
-- Returns id and record of each in turn; an entry that is no record comes with an empty one
-- Called by store::Comparisons::read

local stream, results = KEYS[1], KEYS[2]
local group, consumer, most = ARGV[1], ARGV[2], ARGV[3]

local answer = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', stream, '>')
if not answer then
  return {}
end
if answer.err then
  return answer
end
local entries = answer[1][2]
redis.call('HINCRBY', results, 'read', #entries)

-- Of the first record of a life everything is expected where the life began after the group, or the
-- stream was empty then.
local opened = redis.call('HMGET', results, 'opened_ms', 'opened_empty')
local function lowest(epoch, sequence)
  if opened[2] == '1' or tonumber(epoch) >= tonumber(opened[1] or '0') then
    return 1
  end
  return sequence
end

local taken = {}
for _, entry in ipairs(entries) do
  local record = ''
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'record' then
      record = entry[2][i + 1]
    end
  end
  taken[#taken + 1] = entry[1]
  taken[#taken + 1] = record
  local gateway, epoch, sequence = string.match(record,
    '^{"schema":"[^"]*","id":"[^"]*","gateway":"([^"]*)","epoch":(%d+),"sequence":(%d+)[,}]')
  if gateway then
    local life = 'gateway.' .. gateway .. '.' .. epoch
    redis.call('HINCRBY', results, life .. '.seen', 1)
    redis.call('HSETNX', results, life .. '.low', lowest(epoch, sequence))
    local high = redis.call('HGET', results, life .. '.high')
    if not high or tonumber(sequence) > tonumber(high) then
      redis.call('HSET', results, life .. '.high', sequence)
    end
  end
end
return taken
