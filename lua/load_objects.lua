-- Reads configuration hashes whole and at one moment, then rings the caller's own channel: every
-- notification of what was read here reaches the caller's subscription before the ring does.
--
-- KEYS    the keys to read
-- ARGV[1] the most fields of a hash
-- ARGV[2] the most bytes of one field or value
-- ARGV[3] the most bytes of a hash
-- ARGV[4] the channel to ring
-- ARGV[5] what to ring, or '' for no ring
-- Returns one entry a key, in their order: nil where nothing stands, a flat list of fields and
--         values, or a text that says why it cannot be read; and last 1 if the ring was accepted,
--         else 0
-- Called by store::Store::load

local fields_max = tonumber(ARGV[1])
local value_max = tonumber(ARGV[2])
local hash_max = tonumber(ARGV[3])
local channel = ARGV[4]
local ring = ARGV[5]

-- Small hashes are stored packed, and what is packed is small: only the others are measured.
local function is_packed(key)
  local encoding = redis.pcall('OBJECT', 'ENCODING', key)
  return encoding == 'listpack' or encoding == 'ziplist'
end

local function too_large(key)
  local fields = redis.call('HLEN', key)
  if fields > fields_max then
    return 'has ' .. fields .. ' fields, want at most ' .. fields_max
  end
  if is_packed(key) then
    return nil
  end
  local sum = 0
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local bytes = redis.call('HSTRLEN', key, field)
    if bytes > value_max or #field > value_max then
      return 'holds a field or value of more than ' .. value_max .. ' bytes'
    end
    sum = sum + bytes + #field
  end
  if sum > hash_max then
    return 'holds ' .. sum .. ' bytes, want at most ' .. hash_max
  end
  return nil
end

local function read(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then
    return false
  end
  if kind ~= 'hash' then
    return 'is a ' .. kind .. ', want a hash'
  end
  return too_large(key) or redis.call('HGETALL', key)
end

local found = {}
for i, key in ipairs(KEYS) do
  found[i] = read(key)
end

local rung = 0
if ring ~= '' then
  local answer = redis.pcall('PUBLISH', channel, ring)
  if type(answer) == 'number' then
    rung = 1
  end
end
found[#KEYS + 1] = rung
return found
