-- Takes over records that another consumer of the group was given and has not been heard of since:
-- it died, or its answer was lost. Records that were trimmed meanwhile are counted. Consumers without
-- records that were not seen for a day are forgotten.
--
-- KEYS[1] the stream of records
-- KEYS[2] the hash of results
-- ARGV[1] the group
-- ARGV[2] the consumer
-- ARGV[3] for how many milliseconds nothing was heard
-- ARGV[4] how many records at most
-- ARGV[5] where the last call stopped looking; 0-0 at first
-- Returns where this one stopped, then id, number of deliveries and record of each in turn
-- Called by store::Comparisons::claim

local stream, results = KEYS[1], KEYS[2]
local group, consumer, idle_ms, most, cursor = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local DAY_MS = 86400000

local answer = redis.pcall('XAUTOCLAIM', stream, group, consumer, idle_ms, cursor, 'COUNT', most)
if answer.err then
  return answer
end
if answer[3] and #answer[3] > 0 then
  redis.call('HINCRBY', results, 'trimmed_pending', #answer[3])
end

local taken = { answer[1] }
for _, entry in ipairs(answer[2]) do
  if entry then
    local record = ''
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'record' then
        record = entry[2][i + 1]
      end
    end
    local pending = redis.call('XPENDING', stream, group, entry[1], entry[1], 1)
    taken[#taken + 1] = entry[1]
    taken[#taken + 1] = pending[1] and pending[1][4] or 1
    taken[#taken + 1] = record
  end
end

for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local of = {}
  for i = 1, #facts, 2 do
    of[facts[i]] = facts[i + 1]
  end
  if of.pending == 0 and of.idle > DAY_MS then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, of.name)
  end
end
return taken
