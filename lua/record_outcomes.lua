-- Adds one batch of counts of one gateway, exactly once: it is applied where Redis knows the batch
-- before it and not this one. Seconds in keys are the caller's; updated_ms is Redis's clock. A key
-- that is no hash is replaced: nobody else writes here.
--
-- KEYS[1] the number of the last batch known of this life of the gateway
-- KEYS[2] and on: the hashes, in the order of their entries
-- ARGV[1] the number of this batch
-- ARGV[2] the number that must be known for it to be applied, 0 for none
-- ARGV[3] life of KEYS[1] in seconds
-- ARGV[4] how many fields every hash of totals or of a window has; their names follow
-- then    one entry after the other: how many hashes; for each its life in seconds, '' for ever,
--         and 1 if it has the fixed fields, else 0; how many fields; each and its increment
-- Returns 'ok', 'dup' or 'gap'; the number of the last batch known now; Redis's clock in
--         milliseconds
-- Called by store::Ledger::record

local last = KEYS[1]
local number = tonumber(ARGV[1])
local after = tonumber(ARGV[2])
local last_life_s = ARGV[3]

local time = redis.call('TIME')
local now_ms = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local known = tonumber(redis.call('GET', last) or '0') or 0
if known >= number then
  return { 'dup', known, now_ms }
end
if known ~= after then
  return { 'gap', known, now_ms }
end

local at = 3
local function take()
  at = at + 1
  return ARGV[at]
end

local fixed = {}
for i = 1, tonumber(take()) do
  fixed[i] = take()
end

local function add(key, life_s, has_fixed, fields, increments)
  local standing = redis.pcall('HMGET', key, unpack(fields))
  if standing.err then
    redis.call('DEL', key)
    standing = {}
  end
  local is_new = redis.call('EXISTS', key) == 0
  local written = {}
  local function write(field, value)
    written[#written + 1] = field
    written[#written + 1] = value
  end
  local counted = {}
  for i, field in ipairs(fields) do
    counted[field] = true
    write(field, string.format('%.0f', (tonumber(standing[i] or '0') or 0) + increments[i]))
  end
  if has_fixed then
    if is_new then
      for _, field in ipairs(fixed) do
        if not counted[field] then
          write(field, '0')
        end
      end
    end
    write('updated_ms', now_ms)
  end
  redis.call('HSET', key, unpack(written))
  if is_new and life_s ~= '' then
    redis.call('EXPIRE', key, life_s)
  end
end

local next_key = 2
while at < #ARGV do
  local hashes = {}
  for i = 1, tonumber(take()) do
    hashes[i] = { key = KEYS[next_key], life_s = take(), has_fixed = take() == '1' }
    next_key = next_key + 1
  end
  local fields, increments = {}, {}
  for i = 1, tonumber(take()) do
    fields[i] = take()
    increments[i] = tonumber(take())
  end
  for _, hash in ipairs(hashes) do
    add(hash.key, hash.life_s, hash.has_fixed, fields, increments)
  end
end

redis.call('SET', last, ARGV[1], 'EX', last_life_s)
return { 'ok', number, now_ms }
