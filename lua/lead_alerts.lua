-- Makes one gateway of all the one that sends alerts, keeps what it knows of incidents, and reads
-- what it judges by, all at one moment. Who holds the lease renews it by calling again; who does
-- not is told so, and writes nothing. Sent twice, it leaves the same incidents.
--
-- KEYS[1] the lease: a text, the name of who holds it
-- KEYS[2] the hash of incidents; its field `leader` names who wrote it, `cursor` the last event seen
-- KEYS[3] the stream of events
-- then    hashes to read
-- ARGV[1] who calls: a gateway in one of its lives
-- ARGV[2] how long the lease holds, in milliseconds
-- ARGV[3] how long incidents are kept that nobody renews, in milliseconds
-- ARGV[4] the event after which to read; empty reads none
-- ARGV[5] the most events read
-- ARGV[6] how many fields of incidents to set; each is a field and its value
-- then    how many fields to remove; each is a field
-- Returns 'held' where another gateway holds the lease; or
--         'won', who led before (empty: nobody whose incidents are still there), the hash of
--         incidents as field and value in turn, the last event of the stream (empty: none); or
--         'lead', events (each its id and its fields and values in turn), the last event of the
--         stream, the hashes read (each field and value in turn, in the order of their keys)
-- Called by store::Store::lead_alerts

local lease = KEYS[1]
local incidents = KEYS[2]
local events = KEYS[3]
local me = ARGV[1]
local lease_ms = ARGV[2]
local keep_ms = ARGV[3]
local cursor = ARGV[4]
local events_max = ARGV[5]

local at = 5
local function take()
  at = at + 1
  return ARGV[at]
end

local holder = redis.call('GET', lease)
if holder and holder ~= me then
  return { 'held' }
end
redis.call('SET', lease, me, 'PX', lease_ms)

local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
last = last[1] and last[1][1] or ''

local before = redis.call('HGET', incidents, 'leader')
if not holder or before ~= me then
  local known = redis.call('HGETALL', incidents)
  redis.call('HSET', incidents, 'leader', me)
  redis.call('PEXPIRE', incidents, keep_ms)
  return { 'won', before or '', known, last }
end

for _ = 1, tonumber(take()) do
  local field, value = take(), take()
  redis.call('HSET', incidents, field, value)
end
for _ = 1, tonumber(take()) do
  redis.call('HDEL', incidents, take())
end
redis.call('PEXPIRE', incidents, keep_ms)

local happened = {}
if cursor ~= '' then
  local read = redis.call('XREAD', 'COUNT', events_max, 'STREAMS', events, cursor)
  if read then
    for i, entry in ipairs(read[1][2]) do
      happened[i] = entry
    end
  end
end

-- A key of another type is as good as an empty hash.
local hashes = {}
for i = 4, #KEYS do
  local hash = redis.pcall('HGETALL', KEYS[i])
  hashes[i - 3] = hash.err and {} or hash
end

return { 'lead', happened, last, hashes }
