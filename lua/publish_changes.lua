-- Makes known what a change of the configuration led to: errors found, errors mended, events. An
-- error that already stands there with the same words keeps its time. Sent twice, it leaves the
-- same errors; an event may then stand there twice. A key of another type is replaced: nobody else
-- writes here.
--
-- KEYS[1] the hash of config errors
-- KEYS[2] the stream of events
-- ARGV[1] the most events kept
-- ARGV[2] how many errors to set; each is a place, its message, and the time to put behind it
-- then    how many errors to remove; each is a place
-- then    how many events; each is a count of texts and as many texts, field and value in turn
-- Returns how many texts were taken
-- Called by store::Store::publish

local errors = KEYS[1]
local events = KEYS[2]
local events_max = ARGV[1]

local function replace_unless(key, wanted)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= wanted then
    redis.call('DEL', key)
  end
end
replace_unless(errors, 'hash')
replace_unless(events, 'stream')

local at = 1
local function take()
  at = at + 1
  return ARGV[at]
end

for _ = 1, tonumber(take()) do
  local place, message, since = take(), take(), take()
  local standing = redis.call('HGET', errors, place)
  local same = message .. ' (since '
  if not standing or string.sub(standing, 1, #same) ~= same then
    redis.call('HSET', errors, place, message .. ' (since ' .. since .. ')')
  end
end

for _ = 1, tonumber(take()) do
  redis.call('HDEL', errors, take())
end

for _ = 1, tonumber(take()) do
  local texts = {}
  for i = 1, tonumber(take()) do
    texts[i] = take()
  end
  redis.call('XADD', events, 'MAXLEN', events_max, '*', unpack(texts))
end

return at
