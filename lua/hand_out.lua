-- Counts that records of a log are handed to a worker: a record that is handed out again and again, and
-- never finished, may be what its workers die of. One that lives, and whose records go to another,
-- takes back what was counted.
--
-- KEYS[1] the hash of how often records were handed out
-- ARGV[1] 1, or -1 to take it back
-- ARGV    each record: its log, a colon and its number
-- Returns how often each was handed out by now
-- Called by store::Comparisons::hand_out and hand_back

local handed, step = KEYS[1], tonumber(ARGV[1])
local counts = {}
for i = 2, #ARGV do
  local count = 0
  if step > 0 or redis.call('HEXISTS', handed, ARGV[i]) == 1 then
    count = redis.call('HINCRBY', handed, ARGV[i], step)
  end
  if count <= 0 then
    redis.call('HDEL', handed, ARGV[i])
  end
  counts[i - 1] = count
end
return counts
