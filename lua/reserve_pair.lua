-- Gives a reviewer the next pair to judge: the one that is reserved for them already, else the oldest
-- that they have not judged and that nobody has reserved. By Redis's own clock.
--
-- KEYS[1] the stream of pairs
-- KEYS[2] the sorted set of pairs that are not labelled yet
-- ARGV[1] what the keys of labels begin with: the names of pairs follow
-- ARGV[2] the reviewer
-- ARGV[3] for how many milliseconds the pair is theirs
-- Returns how many pairs are open, then the name of the pair and its fields and values in turn, where
--         there is one
-- Called by store::Comparisons::reserve

local pairs_to_label, open = KEYS[1], KEYS[2]
local label_prefix, reviewer, hold_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local PAGE = 500

local chosen, entry
local from, names = 0, {}
repeat
  names = redis.call('ZRANGE', open, from, from + PAGE - 1)
  from = from + PAGE
  for _, name in ipairs(names) do
    local facts = redis.call('HMGET', label_prefix .. name, 'reserved_by', 'reserved_until',
      'choice.' .. reviewer, 'entry')
    local reserved = facts[2] and tonumber(facts[2]) > now
    if not facts[3] and reserved and facts[1] == reviewer then
      chosen, entry = name, facts[4]
      break
    end
    if not chosen and not facts[3] and not reserved then
      chosen, entry = name, facts[4]
    end
  end
until chosen or #names == 0

local count = redis.call('ZCARD', open)
if not chosen then
  return { count }
end
local found = redis.call('XRANGE', pairs_to_label, entry, entry)
if not found[1] then
  -- Somebody trimmed the stream: nobody can judge what is gone.
  redis.call('ZREM', open, chosen)
  return { count - 1, '' }
end
redis.call('HSET', label_prefix .. chosen, 'status', 'reserved', 'reserved_by', reviewer,
  'reserved_until', string.format('%.0f', now + hold_ms))
local answer = { count, chosen }
for _, text in ipairs(found[1][2]) do
  answer[#answer + 1] = text
end
return answer
