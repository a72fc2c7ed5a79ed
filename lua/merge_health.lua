-- Lays what one gateway holds of its endpoints' health over what the others wrote: each endpoint
-- shows the worst state that any live gateway holds. What stands there already is not written
-- again, so that sending it twice changes nothing. What a gateway that is gone held is taken away;
-- an endpoint that no gateway knows any more, too. A key that is no hash is replaced: nobody else
-- writes there.
--
-- KEYS[1] hash of the services whose health stands in Redis
-- then    the health hashes of the services
-- then    the hashes of other gateways, by which is known whether they live
-- ARGV[1] the gateway that writes
-- ARGV[2] how many services
-- ARGV[3] how many other gateways
-- then    the names of those gateways
-- then    for each service its name and how many endpoints it has; each is a URL, its state, since
--         when (Unix milliseconds) and why
-- Returns names of gateways that stand there and were not among those given; names of those given
--         that are gone
-- Called by store::Store::merge_health

local index = KEYS[1]
local me = ARGV[1]
local services = tonumber(ARGV[2])
local others = tonumber(ARGV[3])

local RANK = { up = 1, drain = 2, ejected = 3, down = 4 }

local at = 3
local function take()
  at = at + 1
  return ARGV[at]
end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local known, gone, gone_list, unknown, unknown_list = { [me] = true }, {}, {}, {}, {}
for i = 1, others do
  local name = take()
  known[name] = true
  if redis.call('EXISTS', KEYS[1 + services + i]) == 0 then
    gone[name] = true
    gone_list[#gone_list + 1] = name
  end
end

local function decode(json)
  local ok, entry = pcall(cjson.decode, json or '')
  if ok and type(entry) == 'table' and type(entry.gateways) == 'table' then
    return entry
  end
  return { gateways = {} }
end

local function quote(text)
  return (string.gsub(cjson.encode(text), '\\/', '/'))
end

-- The gateways in order, so that the same facts are always the same bytes.
local function encode(entry)
  local names, parts = {}, {}
  for name in pairs(entry.gateways) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    parts[i] = string.format('%s:"%s"', quote(name), entry.gateways[name])
  end
  local form = '{"state":"%s","since_ms":%.0f,"why":%s,"gateways":{%s}}'
  local why = quote(entry.why)
  return string.format(form, entry.state, entry.since_ms, why, table.concat(parts, ','))
end

local function worst(gateways)
  local found
  for _, state in pairs(gateways) do
    if not found or RANK[state] > RANK[found] then
      found = state
    end
  end
  return found
end

-- What stands for an endpoint from now on, or nil where nobody knows it.
local function merge(old, mine)
  local gateways = {}
  for name, state in pairs(old.gateways) do
    if type(name) == 'string' and name ~= me and not gone[name] and RANK[state] then
      gateways[name] = state
      if not known[name] and not unknown[name] then
        unknown[name] = true
        unknown_list[#unknown_list + 1] = name
      end
    end
  end
  local theirs = worst(gateways)
  if mine then
    gateways[me] = mine.state
  end
  local state = worst(gateways)
  if not state then
    return nil
  end
  local entry = { state = state, since_ms = now_ms, why = 'another gateway says so', gateways = gateways }
  if mine and mine.state == state and theirs ~= state then
    entry.since_ms, entry.why = mine.since_ms, mine.why
  elseif old.state == state and type(old.since_ms) == 'number' and type(old.why) == 'string' then
    entry.since_ms, entry.why = old.since_ms, old.why
  elseif mine and mine.state == state then
    entry.since_ms, entry.why = mine.since_ms, mine.why
  end
  return encode(entry)
end

local function write(key, service, mine)
  local flat = redis.pcall('HGETALL', key)
  if flat.err then
    redis.call('DEL', key)
    flat = {}
  end
  local old = {}
  for i = 1, #flat, 2 do
    old[flat[i]] = flat[i + 1]
  end
  for url in pairs(mine) do
    old[url] = old[url] or ''
  end
  local left = false
  for url, json in pairs(old) do
    local entry = merge(decode(json), mine[url])
    if not entry then
      redis.call('HDEL', key, url)
    elseif entry ~= json then
      redis.call('HSET', key, url, entry)
    end
    left = left or entry ~= nil
  end
  if left then
    redis.call('HSETNX', index, service, '')
  else
    redis.call('HDEL', index, service)
  end
end

for i = 1, services do
  local service, mine = take(), {}
  for _ = 1, tonumber(take()) do
    local url = take()
    mine[url] = { state = take(), since_ms = tonumber(take()), why = take() }
  end
  write(KEYS[1 + i], service, mine)
end

return { unknown_list, gone_list }
