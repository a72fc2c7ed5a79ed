-- Writes what a pilot decided about a rollout, all at once or not at all: weights, what is
-- remembered, the audit entry, the event. Nothing is written where the caller does not hold the
-- lease, where another decision or another order of a person came in between, or where somebody
-- else wrote the weights. Sent twice, the second is refused as decided on an old turn. Where the
-- pilot's key, audit or events are of another type, that key is replaced: nobody else writes there.
-- Weights of another type are replaced by force only; a rollout of another type orders nothing.
--
-- KEYS[1] the lease
-- KEYS[2] the pilot's hash
-- KEYS[3] the hash of the rollout, which people write
-- KEYS[4] the hash of weights
-- KEYS[5] the hash of endpoints
-- KEYS[6] the audit stream
-- KEYS[7] the stream of events
-- ARGV[1] the token of who calls
-- ARGV[2] the turn on which it was decided; empty: there was no pilot's hash
-- ARGV[3] what the person's order was: the field state of the rollout's hash, empty where absent
-- ARGV[4] keep: the weights stay; own: they are written if they are still those of ARGV[5];
--         force: they are written in any case
-- ARGV[5] weights as version=weight, commas between, those above 0
-- ARGV[6] the candidate whose endpoints become those of base; empty: none do
-- ARGV[7] how many weights to write; each is a version and a weight; they replace all there are
-- then    how many fields of the pilot's hash to write; each is a field and a text, empty removes it
-- then    the most audit entries kept, and how many texts the entry has: field and value in turn
-- then    the most events kept, and how many texts the event has: field and value in turn
-- Returns done, or what came in between: lease, turn, order or weights
-- Called by store::Rollouts::write

local lease, pilot, rollout = KEYS[1], KEYS[2], KEYS[3]
local weights, endpoints, audit, events = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local token, turn, order, manner = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local expected, promoted = ARGV[5], ARGV[6]

local at = 6
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

local function is(key, wanted)
  return redis.call('TYPE', key).ok == wanted
end
local function field(key, name)
  return is(key, 'hash') and redis.call('HGET', key, name) or ''
end
local function replace_unless(key, wanted)
  if not is(key, wanted) then
    redis.call('DEL', key)
  end
end

if redis.call('GET', lease) ~= token then
  return 'lease'
end
if field(pilot, 'turn') ~= turn then
  return 'turn'
end
if field(rollout, 'state') ~= order then
  return 'order'
end

local standing = is(weights, 'hash') and redis.call('HGETALL', weights) or {}
if manner == 'own' then
  if not is(weights, 'hash') and not is(weights, 'none') then
    return 'weights'
  end
  local wanted, count = {}, 0
  for version, weight in string.gmatch(expected, '([^,=]+)=([^,=]+)') do
    wanted[version] = tonumber(weight)
    count = count + 1
  end
  for i = 1, #standing, 2 do
    -- As numbers: who writes 050 means 50.
    local version, weight = standing[i], tonumber(standing[i + 1])
    if weight ~= 0 then
      if not weight or wanted[version] ~= weight then
        return 'weights'
      end
      count = count - 1
    end
  end
  if count ~= 0 then
    return 'weights'
  end
end

-- First, for a command that fails later would leave the ones before it written.
local all = promoted ~= '' and redis.call('HGETALL', endpoints) or {}
replace_unless(pilot, 'hash')
replace_unless(audit, 'stream')
replace_unless(events, 'stream')
if manner == 'force' then
  replace_unless(weights, 'hash')
end

local written = tonumber(take())
local kept = {}
for _ = 1, written do
  local version, weight = take(), take()
  kept[version] = true
  if manner ~= 'keep' then
    redis.call('HSET', weights, version, weight)
  end
end
if manner ~= 'keep' then
  for i = 1, #standing, 2 do
    if not kept[standing[i]] then
      redis.call('HDEL', weights, standing[i])
    end
  end
end

-- A version kept for going back must not be mixed with an older one: that one is off.
for i = 1, #all, 2 do
  local url, words = all[i], all[i + 1]
  local version, rest = string.match(words, '^%s*(%S+)(.*)$')
  if version == promoted then
    redis.call('HSET', endpoints, url, 'base' .. rest)
  elseif version == 'base' then
    redis.call('HSET', endpoints, url, 'previous' .. rest)
  elseif version == 'previous' and not string.find(' ' .. rest .. ' ', ' off ', 1, true) then
    redis.call('HSET', endpoints, url, words .. ' off')
  end
end

for _ = 1, tonumber(take()) do
  local field, text = take(), take()
  if text == '' then
    redis.call('HDEL', pilot, field)
  else
    redis.call('HSET', pilot, field, text)
  end
end

local audit_max = take()
local entry = take_texts()
if #entry > 0 then
  redis.call('XADD', audit, 'MAXLEN', audit_max, '*', unpack(entry))
end
local events_max = take()
local event = take_texts()
if #event > 0 then
  redis.call('XADD', events, 'MAXLEN', events_max, '*', unpack(event))
end
return 'done'
