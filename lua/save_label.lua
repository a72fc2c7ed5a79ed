-- Saves what a reviewer says of a pair, once: what they said first stands. When as many have judged
-- it as are wanted, the pair is done, and one that was chosen at random is counted.
--
-- KEYS[1] the hash of the pair's labels
-- KEYS[2] the sorted set of pairs that are not labelled yet
-- KEYS[3] the hash of results
-- ARGV[1] the pair
-- ARGV[2] the reviewer
-- ARGV[3] base, candidate, tie, both_bad or skip
-- ARGV[4] a comment, which may be empty
-- ARGV[5] how long they looked at it, in milliseconds
-- ARGV[6] how many reviewers are wanted
-- ARGV[7] random, or why else it was chosen
-- Returns 1 where it was saved, 0 where they had judged it before, -1 where there is no such pair
-- Called by store::Comparisons::save

local label, open, results = KEYS[1], KEYS[2], KEYS[3]
local pair, reviewer, choice = ARGV[1], ARGV[2], ARGV[3]
local comment, ms, wanted, chosen = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7]

if redis.call('HEXISTS', label, 'status') == 0 then
  return -1
end
if redis.call('HSETNX', label, 'choice.' .. reviewer, choice) == 0 then
  return 0
end
redis.call('HSET', label, 'ms.' .. reviewer, ms)
if comment ~= '' then
  redis.call('HSET', label, 'comment.' .. reviewer, comment)
end
if redis.call('HGET', label, 'reserved_by') == reviewer then
  redis.call('HDEL', label, 'reserved_by', 'reserved_until')
end
if redis.call('HGET', label, 'status') == 'done' then
  return 1
end
redis.call('HSET', label, 'status', 'open')

local said, judged = { base = 0, candidate = 0, tie = 0, both_bad = 0 }, 0
local fields = redis.call('HGETALL', label)
for i = 1, #fields, 2 do
  local by = string.match(fields[i], '^choice%.')
  if by and said[fields[i + 1]] then
    said[fields[i + 1]] = said[fields[i + 1]] + 1
    judged = judged + 1
  end
end
if judged < wanted then
  return 1
end
redis.call('HSET', label, 'status', 'done')
redis.call('ZREM', open, pair)
redis.call('HINCRBY', results, 'label.done', 1)
if chosen == 'random' then
  local verdict = 'tie'
  if said.candidate > said.base and said.candidate > said.tie + said.both_bad then
    verdict = 'win'
  elseif said.base > said.candidate and said.base > said.tie + said.both_bad then
    verdict = 'loss'
  end
  redis.call('HINCRBY', results, 'label.' .. verdict, 1)
end
return 1
