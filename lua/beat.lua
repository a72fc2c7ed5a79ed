-- Refreshes the hash of one gateway and tells whether it was still there: if it was not, somebody
-- flushed or swapped the database, which no notification says. heartbeat_ms is Redis's clock.
--
-- KEYS[1] the gateway's hash
-- KEYS[2] the sorted set of gateways, each by its last life sign
-- KEYS[3] the token by which an operator says that what vanished may be forgotten
-- KEYS[4] the moment for which somebody waits: what stood then is to be in force
-- ARGV[1] life of the hash in milliseconds
-- ARGV[2] and on: fields and values
-- Returns 1 if the hash was there, else 0; Redis's clock in milliseconds; how many
--         gateways gave a life sign within that life; the token, or nil; started_ms of whoever
--         wrote the hash before, or nil; the moment, or nil
-- Called by store::Store::beat

local gateway = KEYS[1]
local fleet = KEYS[2]
local forget = KEYS[3]
local awaited = KEYS[4]
local life_ms = ARGV[1]

local was_there = redis.call('EXISTS', gateway)
local started_ms = redis.call('HGET', gateway, 'started_ms')
local time = redis.call('TIME')
local now_ms = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local fields = { 'heartbeat_ms', now_ms }
for i = 2, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
redis.call('HSET', gateway, unpack(fields))
redis.call('PEXPIRE', gateway, life_ms)

redis.call('ZADD', fleet, now_ms, gateway)
redis.call('ZREMRANGEBYSCORE', fleet, '-inf', '(' .. string.format('%d', now_ms - life_ms))
redis.call('PEXPIRE', fleet, life_ms)

return { was_there, now_ms, redis.call('ZCARD', fleet), redis.call('GET', forget), started_ms,
  redis.call('GET', awaited) }
