-- Says where the partitions of a log are to be read from: behind all records that are finished. A
-- partition that nobody has read begins at its first record; at its end, where a candidate is to begin
-- with new records and none of its partitions was known before. A low mark behind the end of its
-- partition means that the broker lost records: it comes back to the end.
--
-- KEYS[1] the hash of low marks
-- KEYS[2] the hash of results
-- KEYS[3] and on: for each partition the sorted set of finished numbers above its low mark
-- ARGV[1] where a candidate begins that was never compared: new or oldest
-- then    for each partition its field, the first number that still stands, and the one that comes next
-- Returns for each partition its low mark, and the finished numbers above it
-- Called by store::Comparisons::open_log

local lows, results = KEYS[1], KEYS[2]
local at_end = ARGV[1] == 'new' and redis.call('EXISTS', lows) == 0

local answer, is_empty = {}, 1
for i = 3, #KEYS do
  local at = 2 + (i - 3) * 3
  local log, first, next_one = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local low = redis.call('HGET', lows, log)
  if not low then
    low = at_end and next_one or first
    redis.call('HSET', lows, log, low)
  elseif tonumber(low) > tonumber(next_one) then
    low = next_one
    redis.call('HSET', lows, log, low)
    redis.call('DEL', KEYS[i])
  end
  if first ~= next_one then
    is_empty = 0
  end
  local mark = { low }
  for _, finished in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do
    mark[#mark + 1] = string.match(finished, '^%d+')
  end
  answer[#answer + 1] = mark
end

if redis.call('HEXISTS', lows, 'opened_ms') == 0 then
  local now = redis.call('TIME')
  local now_ms = now[1] .. string.format('%03d', math.floor(now[2] / 1000))
  redis.call('HSET', lows, 'opened_ms', now_ms)
  redis.call('HSET', results, 'opened_ms', now_ms, 'opened_empty', is_empty)
end
return answer
