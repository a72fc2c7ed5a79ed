-- Counts what came of one record: the part that the scripts share which count one. They find out
-- first whether it was counted before, and say in `at` which of their arguments is the last of their
-- own. Keeps examples of what differs, the five newest a kind, and puts a pair up for people to judge.
--
-- KEYS[1] that of the script before
-- KEYS[2] the hash of results
-- KEYS[3] the stream of dead letters
-- KEYS[4] the stream of examples
-- KEYS[5] the stream of pairs to label
-- KEYS[6] the sorted set of pairs that are not labelled yet
-- KEYS[7] the hash of the pair's labels
-- ARGV    behind those of the script before:
--         how many counters; each is a field and an increment
-- then    how many paths are told apart at most
-- then    how many marks; each is a path, and candidate_only, noise_only or both
-- then    how many dead letters are kept, and how many texts the letter has: field and value in turn
-- then    how many kinds the example is one of; each is a name
-- then    how many texts the example has: field and value in turn
-- then    how many pairs may wait for a label, the name of this one, and how many texts it has
-- Returns 1: it was counted
-- Called by the end of commit_entry.lua and commit_offset.lua

local results, dead, examples = KEYS[2], KEYS[3], KEYS[4]
local pairs_to_label, open, label = KEYS[5], KEYS[6], KEYS[7]
local EXAMPLES_EACH = 5

local function take()
  at = at + 1
  return ARGV[at]
end
local function take_texts()
  local texts = {}
  for i = 1, tonumber(take()) do
    texts[i] = take()
  end
  return texts
end

for _ = 1, tonumber(take()) do
  local field, increment = take(), take()
  redis.call('HINCRBY', results, field, increment)
end

local paths_max = tonumber(take())
local other_marked = {}
for _ = 1, tonumber(take()) do
  local path, mark = take(), take()
  if redis.call('HEXISTS', results, 'path.' .. path .. '.both') == 0 then
    if path == 'other' or tonumber(redis.call('HGET', results, 'paths') or '0') >= paths_max then
      path = 'other'
    else
      redis.call('HINCRBY', results, 'paths', 1)
    end
    for _, each in ipairs({ 'candidate_only', 'noise_only', 'both' }) do
      redis.call('HINCRBY', results, 'path.' .. path .. '.' .. each, 0)
    end
  end
  -- Several paths beyond the most are one, and count once.
  if path ~= 'other' or not other_marked[mark] then
    redis.call('HINCRBY', results, 'path.' .. path .. '.' .. mark, 1)
    other_marked[mark] = path == 'other' or other_marked[mark]
  end
end

local dead_max = take()
local letter = take_texts()
if #letter > 0 then
  redis.call('XADD', dead, 'MAXLEN', dead_max, '*', unpack(letter))
end

-- The example belongs to the kind of which there are the fewest, so that a rare difference is not
-- pushed out by a common one.
local kinds = take_texts()
local example = take_texts()
if #kinds > 0 then
  local owner, owned
  for _, kind in ipairs(kinds) do
    if redis.call('HEXISTS', results, 'example.' .. kind) == 0 then
      if tonumber(redis.call('HGET', results, 'kinds') or '0') >= 2 * paths_max then
        kind = 'other'
      else
        redis.call('HINCRBY', results, 'kinds', 1)
      end
      redis.call('HSETNX', results, 'example.' .. kind, '')
    end
    local ids = {}
    for id in string.gmatch(redis.call('HGET', results, 'example.' .. kind) or '', '%S+') do
      ids[#ids + 1] = id
    end
    if not owned or #ids < #owned then
      owner, owned = kind, ids
    end
  end
  owned[#owned + 1] = redis.call('XADD', examples, '*', unpack(example))
  while #owned > EXAMPLES_EACH do
    redis.call('XDEL', examples, table.remove(owned, 1))
  end
  redis.call('HSET', results, 'example.' .. owner, table.concat(owned, ' '))
end

local open_max, name = tonumber(take()), take()
local pair = take_texts()
if #pair > 0 and redis.call('EXISTS', label) == 0 then
  if redis.call('XLEN', pairs_to_label) >= open_max then
    redis.call('HINCRBY', results, 'label.full', 1)
  else
    local id = redis.call('XADD', pairs_to_label, '*', unpack(pair))
    redis.call('HSET', label, 'status', 'open', 'entry', id)
    redis.call('ZADD', open, string.match(id, '^%d+'), name)
  end
end
return 1
