-- Leases shares of quotas that all gateways count against together: the shares that hold of one quota
-- are never more than the whole. Each gateway says how much it could use; where that is more than
-- there is, each gets its part of it, else all, and an equal part of the rest. What others hold is
-- theirs until they ask again or until it lapses. Whose clock: Redis's. Sent twice, it leaves the
-- same shares.
--
-- KEYS the quotas: hashes, a field for each gateway: what it wants, what it has, until when
-- ARGV[1] the gateway that asks
-- ARGV[2] how long a share holds, in milliseconds
-- ARGV[3] what the whole is
-- then    for each quota what the gateway could use, of the whole, and what it still holds
-- Returns for each quota the gateway's share of the whole
-- Called by store::Store::lease_quotas

local me = ARGV[1]
local life_ms = tonumber(ARGV[2])
local whole = tonumber(ARGV[3])

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local shares = {}
for i, quota in ipairs(KEYS) do
  local want = tonumber(ARGV[2 + 2 * i])
  local held = tonumber(ARGV[3 + 2 * i])
  local wanted, given, gateways = want, 0, 1
  local members = redis.call('HGETALL', quota)
  for j = 1, #members, 2 do
    if members[j] ~= me then
      local wants, has, until_ms = string.match(members[j + 1], '^(%d+) (%d+) (%d+)$')
      if wants and tonumber(until_ms) > now_ms then
        wanted = wanted + wants
        given = given + has
        gateways = gateways + 1
      else
        redis.call('HDEL', quota, members[j])
      end
    end
  end
  local share
  if wanted > whole then
    share = math.floor(want * whole / wanted)
  else
    share = want + math.floor((whole - wanted) / gateways)
  end
  -- Redis forgot what others hold: who holds a share keeps it for now, and gets no more.
  if #members == 0 and held > 0 then
    share = math.min(share, held)
  end
  share = math.max(0, math.min(share, whole - given))
  redis.call('HSET', quota, me, string.format('%d %d %d', want, share, now_ms + life_ms))
  redis.call('PEXPIRE', quota, life_ms)
  shares[i] = share
end

return shares
