-- Records what a gateway saw change, once for all gateways that saw it. What was recorded last of a
-- field tells what is new: a report is left out where that is what it tells, where nothing changed
-- since, or where it is older than that. Sent twice, it is recorded once. at_ms is Redis's clock.
--
-- KEYS[1] the history, a stream
-- then    for each hash its key, and the key of what of it was recorded last
-- ARGV[1] the most entries kept
-- ARGV[2] life of what was recorded last, in milliseconds
-- ARGV[3] the name of this change, another one for each
-- ARGV[4] the gateway
-- ARGV[5] its revision
-- ARGV[6] 'more' where not all that changed is told, else ''
-- then    for each hash: its key as it may be shown; how many fields follow; each is its name,
--         'secret' or '', what stood, what stands, and what may be shown of both: '=' and the text,
--         or '-' for nothing
-- Returns how many fields were recorded
-- Called by store::Store::record

local history = KEYS[1]
local entries_max = ARGV[1]
local life_ms = ARGV[2]
local change = ARGV[3]
local gateway = ARGV[4]
local revision = ARGV[5]
local more = ARGV[6] == 'more'

local at = 6
local function take()
  at = at + 1
  return ARGV[at]
end

local time = redis.call('TIME')
local now_ms = string.format('%d%03d', time[1], math.floor(time[2] / 1000))

local function add(key, name, old, new)
  local texts = { 'at_ms', now_ms, 'change', change, 'key', key, 'field', name }
  if old ~= '-' then
    texts[#texts + 1] = 'old'
    texts[#texts + 1] = string.sub(old, 2)
  end
  if new ~= '-' then
    texts[#texts + 1] = 'new'
    texts[#texts + 1] = string.sub(new, 2)
  end
  for _, text in ipairs({ 'revision', revision, 'gateway', gateway }) do
    texts[#texts + 1] = text
  end
  redis.call('XADD', history, 'MAXLEN', entries_max, '*', unpack(texts))
end

local recorded = 0
for i = 2, #KEYS, 2 do
  local key, last_of = KEYS[i], KEYS[i + 1]
  local shown = take()
  for _ = 1, tonumber(take()) do
    local name, secret, old, new = take(), take() == 'secret', take(), take()
    local old_shown, new_shown = take(), take()
    local function mark(text)
      return secret and redis.sha1hex(text) or text
    end
    local last = redis.call('HGET', last_of, name)
    local value = redis.call('HGET', key, name)
    local stands = mark(value and '=' .. value or '-')
    local known = last and (last == mark(new) or last == stands)
    local stale = last and last ~= mark(old) and mark(new) ~= stands
    if not known and not stale then
      if last and not secret and last ~= old and #last <= 4096 then
        old_shown = last
      end
      add(shown, name, old_shown, new_shown)
      redis.call('HSET', last_of, name, mark(new))
      redis.call('PEXPIRE', last_of, life_ms)
      recorded = recorded + 1
    end
  end
end
if more and recorded > 0 then
  add('*', '', '-', '-')
end

return recorded
