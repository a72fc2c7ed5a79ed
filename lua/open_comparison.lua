-- Makes the consumer group in which a candidate's records are read, unless it is there. A group that
-- begins behind what stands in the stream remembers how far each gateway had counted, so that
-- records which are trimmed before they are read can be told from those that came too early.
--
-- KEYS[1] the stream of records
-- KEYS[2] the hash of results
-- ARGV[1] the group
-- ARGV[2] where it begins: $ behind the last record, 0 at the first, or the id of an entry
-- ARGV[3] how many records are looked at to see how far gateways have counted
-- Returns 1 where the group was made, 0 where it was there
-- Called by store::Comparisons::open

local stream, results = KEYS[1], KEYS[2]
local group, start, looked_at = ARGV[1], ARGV[2], ARGV[3]

local made = redis.pcall('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then
    return 0
  end
  return made
end

local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', looked_at)
local now = redis.call('TIME')
redis.call('HSET', results, 'opened_ms', now[1] .. string.format('%03d', math.floor(now[2] / 1000)),
  'opened_empty', #newest == 0 and 1 or 0)
if start ~= '$' then
  return 1
end
for _, entry in ipairs(newest) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'record' then
      local gateway, epoch, sequence = string.match(entry[2][i + 1],
        '^{"schema":"[^"]*","id":"[^"]*","gateway":"([^"]*)","epoch":(%d+),"sequence":(%d+)[,}]')
      if gateway then
        local life = 'gateway.' .. gateway .. '.' .. epoch
        -- The newest entry of a life comes first.
        if redis.call('HSETNX', results, life .. '.high', sequence) == 1 then
          redis.call('HSET', results, life .. '.low', string.format('%.0f', sequence + 1),
            life .. '.seen', 0)
        end
      end
    end
  end
end
return 1
