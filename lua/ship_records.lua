-- Adds one batch of shadow records of one gateway to their streams, and to the books what became of
-- them and of those that were dropped before: all of it or nothing, and exactly once. A record that
-- its stream refuses (the key is no stream) is one more dropped. A key of books that is no hash is
-- replaced: nobody else writes there.
--
-- KEYS[1] the number of the last batch known of this life of the gateway, and what its records came to
-- KEYS[2] and on: for each service its stream and its books
-- ARGV[1] the number of this batch
-- ARGV[2] life of KEYS[1] in seconds
-- then    for each service: how many entries its stream shall hold, roughly; how many records; each;
--         how many fields of the books; each and its increment
-- Returns 'ok' or 'dup'; for each service how many of its records the stream took ('dup' of an
--         older batch: nothing)
-- Called by store::ShadowStream::ship

local last = KEYS[1]
local number = tonumber(ARGV[1])
local last_life_s = ARGV[2]

local known, before = string.match(redis.call('GET', last) or '0', '^(%d+)(.*)$')
if tonumber(known) >= number then
  local taken = {}
  if tonumber(known) == number then
    for count in string.gmatch(before, ' (%d+)') do
      taken[#taken + 1] = tonumber(count)
    end
  end
  return { 'dup', taken }
end

-- First, so that a Redis that takes no writes now refuses the batch as a whole.
redis.call('SET', last, ARGV[1], 'EX', last_life_s)

local at = 2
local function take()
  at = at + 1
  return ARGV[at]
end

local function add_to_books(key, fields, increments)
  local standing = redis.pcall('HMGET', key, unpack(fields))
  if standing.err then
    redis.call('DEL', key)
    standing = {}
  end
  local written = {}
  for i, field in ipairs(fields) do
    local sum = (tonumber(standing[i] or '0') or 0) + increments[i]
    written[#written + 1] = field
    written[#written + 1] = string.format('%.0f', sum)
  end
  redis.call('HSET', key, unpack(written))
end

local all_taken = {}
local next_key = 2
while at < #ARGV do
  local stream, books = KEYS[next_key], KEYS[next_key + 1]
  next_key = next_key + 2
  local maxlen, records = take(), tonumber(take())
  local taken = 0
  for _ = 1, records do
    local added = redis.pcall('XADD', stream, 'MAXLEN', '~', maxlen, '*', 'record', take())
    if type(added) == 'string' then
      taken = taken + 1
    end
  end
  local fields = { 'sampled', 'delivered', 'dropped_sink' }
  local increments = { records, taken, records - taken }
  for _ = 1, tonumber(take()) do
    local field, increment = take(), tonumber(take())
    local place = #fields + 1
    for i, name in ipairs(fields) do
      if name == field then
        place = i
      end
    end
    fields[place] = field
    increments[place] = (increments[place] or 0) + increment
  end
  add_to_books(books, fields, increments)
  all_taken[#all_taken + 1] = taken
end

redis.call('SET', last, ARGV[1] .. ' ' .. table.concat(all_taken, ' '), 'EX', last_life_s)
return { 'ok', all_taken }
