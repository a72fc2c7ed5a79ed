-- Asks every gateway to put in force what stands now, by Redis's clock: the next millisecond, so that
-- what was written within this one is in it. Sent twice, a later moment is asked for.
--
-- KEYS[1] the moment for which somebody waits
-- ARGV[1] life of the wish in seconds
-- Returns the moment, which the gateways' `read_ms` has reached once they have
-- Called by store::Store::await_all

local awaited = KEYS[1]
local life_s = ARGV[1]

local time = redis.call('TIME')
local moment = string.format('%d%03d', time[1], math.floor(time[2] / 1000))
moment = string.format('%.0f', tonumber(moment) + 1)
redis.call('SET', awaited, moment, 'EX', life_s)
return moment
