-- Takes or keeps the lease by which one pilot of all leads a rollout, or gives it back. Who holds it
-- renews it by calling again. Sent twice, it leaves the same. A key of another type is replaced:
-- nobody else writes there.
--
-- KEYS[1] the lease: a text, the token of who holds it
-- ARGV[1] the token of who calls, new at each start
-- ARGV[2] how long the lease holds, in milliseconds; 0 gives it back
-- Returns 1 where the caller holds it (or gave it back), else 0
-- Called by store::Rollouts::lead

local lease = KEYS[1]
local token = ARGV[1]
local life_ms = tonumber(ARGV[2])

local kind = redis.call('TYPE', lease).ok
if kind ~= 'none' and kind ~= 'string' then
  redis.call('DEL', lease)
end
local holder = redis.call('GET', lease)
if holder and holder ~= token then
  return 0
end
if life_ms == 0 then
  redis.call('DEL', lease)
else
  redis.call('SET', lease, token, 'PX', life_ms)
end
return 1
