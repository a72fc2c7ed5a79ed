-- Writes fields of configuration hashes and records that in the history: all of it where what stands
-- is what the caller saw, else nothing. Sent twice, the second one finds that something else stands.
-- at_ms is Redis's clock.
--
-- KEYS[1] the history, a stream
-- then    for each hash its key, and the key of what of it was recorded last
-- ARGV[1] the most entries kept
-- ARGV[2] life of what was recorded last, in milliseconds
-- ARGV[3] the name of this change, another one for each
-- ARGV[4] who changes
-- then    for each hash: its key as it may be shown; how many fields must stand, or '' where that
--         does not matter; how many fields follow; each is its name, 'secret' or '', what must stand,
--         what is to stand, and what may be shown of both: '=' and the text, or '-' for nothing
-- Where the history or what was recorded last is of another type, that is an error and nothing is
-- written.
-- Returns 1; or 0, the key, the field ('' for their number) and what stands there, in the same form
-- Called by store::Store::change

local history = KEYS[1]
local entries_max = ARGV[1]
local life_ms = ARGV[2]
local change = ARGV[3]
local who = ARGV[4]

local at = 4
local function take()
  at = at + 1
  return ARGV[at]
end

local function form(value)
  return value and '=' .. value or '-'
end

-- A command that fails later would leave the ones before it written.
local function refuse_unless(key, wanted)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= wanted then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. kind .. ' and no ' .. wanted)
  end
end

local wrong = refuse_unless(history, 'stream')
for i = 3, #KEYS, 2 do
  wrong = wrong or refuse_unless(KEYS[i], 'hash')
end
if wrong then
  return wrong
end

local hashes = {}
for i = 2, #KEYS, 2 do
  local hash = { key = KEYS[i], recorded = KEYS[i + 1], shown = take(), fields = {} }
  local count = take()
  if count ~= '' and tonumber(count) ~= redis.call('HLEN', hash.key) then
    return { 0, hash.key, '', form(tostring(redis.call('HLEN', hash.key))) }
  end
  for n = 1, tonumber(take()) do
    local field = { name = take(), secret = take() == 'secret', old = take(), new = take() }
    field.old_shown, field.new_shown = take(), take()
    local stands = form(redis.call('HGET', hash.key, field.name))
    if stands ~= field.old then
      return { 0, hash.key, field.name, stands }
    end
    hash.fields[n] = field
  end
  hashes[#hashes + 1] = hash
end

local time = redis.call('TIME')
local now_ms = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local function record(hash, field)
  local texts = { 'at_ms', now_ms, 'change', change, 'key', hash.shown, 'field', field.name }
  if field.old_shown ~= '-' then
    texts[#texts + 1] = 'old'
    texts[#texts + 1] = string.sub(field.old_shown, 2)
  end
  if field.new_shown ~= '-' then
    texts[#texts + 1] = 'new'
    texts[#texts + 1] = string.sub(field.new_shown, 2)
  end
  texts[#texts + 1] = 'who'
  texts[#texts + 1] = who
  redis.call('XADD', history, 'MAXLEN', entries_max, '*', unpack(texts))
  local mark = field.secret and redis.sha1hex(field.new) or field.new
  redis.call('HSET', hash.recorded, field.name, mark)
end

for _, hash in ipairs(hashes) do
  for _, field in ipairs(hash.fields) do
    if field.new == '-' then
      redis.call('HDEL', hash.key, field.name)
    else
      redis.call('HSET', hash.key, field.name, string.sub(field.new, 2))
    end
    record(hash, field)
  end
  redis.call('PEXPIRE', hash.recorded, life_ms)
end

return { 1 }
