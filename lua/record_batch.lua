-- Adds one batch of counts of one gateway, exactly once: it is applied where Redis knows the batch
-- before it and not this one. Seconds in keys are the caller's; updated_ms is Redis's clock. A key
-- that is no hash is replaced: nobody else writes here.
--
-- A hash of a trial has the number of its trial in the field `trial`. Counts of a later trial begin
-- it anew, those of an earlier one are not added. Of callers those count that are new to the trial.
--
-- KEYS[1] the number of the last batch known of this life of the gateway
-- KEYS[2] and on: for each entry of a trial its hash and its set of callers; then the other hashes,
--         in the order of their entries
-- ARGV[1] the number of this batch
-- ARGV[2] the number that must be known for it to be applied, 0 for none
-- ARGV[3] life of KEYS[1] in seconds
-- ARGV[4] how many fields every hash of totals or of a window has; their names follow
-- then    lives of a trial's hash and of its callers in seconds, and the most callers it counts
-- then    how many entries of trials; each is the number of the trial; what its fields begin with;
--         how many fields; each and its increment; and callers in one text, for each the 8 bytes of
--         its hash and '1' where its request was bad, else '0'
-- then    one entry after the other: how many hashes; for each its life in seconds, '' for ever,
--         and 1 if it has the fixed fields, else 0; how many fields; each and its increment
-- Returns 'ok', 'dup' or 'gap'; the number of the last batch known now; Redis's clock in
--         milliseconds; the sets of callers that are full
-- Called by store::Ledger::record

local last = KEYS[1]
local number = tonumber(ARGV[1])
local after = tonumber(ARGV[2])
local last_life_s = ARGV[3]

local time = redis.call('TIME')
local now_ms = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local known = tonumber(redis.call('GET', last) or '0') or 0
if known >= number then
  return { 'dup', known, now_ms, {} }
end
if known ~= after then
  return { 'gap', known, now_ms, {} }
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

local trial_life_s, callers_life_s, callers_max = take(), take(), tonumber(take())
local full = {}

-- Whether counts of that trial belong in the hash.
local function is_on(hash, callers, trial)
  local standing = redis.pcall('HGET', hash, 'trial')
  standing = type(standing) == 'string' and tonumber(standing)
  if not standing or standing < tonumber(trial) then
    redis.call('DEL', hash)
    redis.call('UNLINK', callers)
    redis.call('HSET', hash, 'trial', trial)
    return true
  end
  return standing == tonumber(trial)
end

-- How many of these are new, and how many of the new ones are bad.
local function meet(callers, told)
  local there = redis.pcall('SCARD', callers)
  if type(there) ~= 'number' then
    redis.call('DEL', callers)
    there = 0
  end
  local first, first_bad = 0, 0
  for i = 1, #told, 9 do
    if there >= callers_max then
      full[#full + 1] = callers
      break
    end
    if redis.call('SADD', callers, string.sub(told, i, i + 7)) == 1 then
      there = there + 1
      first = first + 1
      first_bad = first_bad + tonumber(string.sub(told, i + 8, i + 8))
    end
  end
  redis.call('EXPIRE', callers, callers_life_s)
  return first, first_bad
end

local next_key = 2
for _ = 1, tonumber(take()) do
  local hash, callers = KEYS[next_key], KEYS[next_key + 1]
  next_key = next_key + 2
  local trial, prefix = take(), take()
  local fields, increments = {}, {}
  for i = 1, tonumber(take()) do
    fields[i] = prefix .. take()
    increments[i] = tonumber(take())
  end
  local told = take()
  if is_on(hash, callers, trial) then
    if told ~= '' then
      local first, first_bad = meet(callers, told)
      fields[#fields + 1] = prefix .. 'first'
      increments[#increments + 1] = first
      fields[#fields + 1] = prefix .. 'first_bad'
      increments[#increments + 1] = first_bad
    end
    if #fields > 0 then
      add(hash, '', false, fields, increments)
    end
    redis.call('EXPIRE', hash, trial_life_s)
  end
end

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
return { 'ok', number, now_ms, full }
